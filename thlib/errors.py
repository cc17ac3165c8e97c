"""The errors that thlib raises on purpose: each a sentence that says what was given, what is needed, what to do.

`ThlibError` is the family; the command line prints its message on one line and exits with code 2."""


class ThlibError(Exception):
    """Base of all errors that a user can mend. `str(error)` is one plain sentence."""


class MediaError(ThlibError):
    """A video, picture or sound file that cannot be read or written as asked."""


class DataError(ThlibError):
    """A data set, manifest, mirror, download or model file that is missing or does not match its hash."""


class FaceError(ThlibError):
    """No face, several faces, or a face that is hidden where one is needed."""


class SpeechError(ThlibError):
    """Sound that cannot be spoken, aligned or matched with its text."""


class EditError(ThlibError):
    """An edit of the transcript that is empty, ambiguous or too long."""


class CourseError(ThlibError):
    """A notebook run with an unknown profile or parameter, or one that recorded nothing."""


class TrainingError(ThlibError):
    """A training whose settings, checkpoint, first weights or loss do not allow it to start or to go on."""
