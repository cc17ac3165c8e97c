# make setup   .venv with all packages (about 2.5 GB on disk, 3 to 10 minutes; the second call takes a second)
# make lab     set up, bring the notebooks into course/ (yours are never overwritten), open JupyterLab
#              ROLE=instructor: those with solutions and notes for teaching, into course-instructor/
# make course  set up, an edited video out/edited.mp4 with its page, every notebook into out/course/index.html
# make site    set up, static pages of the executed notebooks into out/site (PROFILE=smoke, for those to be executed)
# make test    set up, ruff, unit tests, every notebook under the smoke profile
# make bench   the tables of the benchmarks
# Real footage comes from the folder or base URL in THLIB_MIRROR; without it, it is downloaded or reported as not run.

BIN := .venv/bin
SMOKE := out/course
ROLE := student
LAB := course$(if $(filter-out student,$(ROLE)),-$(ROLE))

# Notebooks run in other folders, so a mirror folder is named from the root.
ifneq ($(wildcard $(THLIB_MIRROR)),)
export THLIB_MIRROR := $(abspath $(THLIB_MIRROR))
endif

.PHONY: setup lab course edited site test bench clean

setup: .venv/ready
	@:

.venv/ready: requirements.lock pyproject.toml tools/setup.sh
	@sh tools/setup.sh

lab: setup
	@$(BIN)/python tools/lab.py $(ROLE) $(LAB)
	@$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)/$(LAB)" \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate $(if $(filter 0,$(shell id -u)),--allow-root)

course: setup edited
	@status=0; $(BIN)/thlib course run --profile smoke --out $(SMOKE) || status=$$?; \
	$(BIN)/thlib course report --out $(SMOKE) || status=$$?; exit $$status

# A presenter says a sentence, then another; the first is edited so that it says the new words: no data, no network.
WHO := --identity 4 --size 384
edited: setup
	@mkdir -p out
	@$(BIN)/thlib presenter say "our shop opens at nine on Monday" $(WHO) -o out/recording.mp4
	@$(BIN)/thlib presenter say "our shop opens at seven on Friday" $(WHO) --seed 1 -o out/words.mp4
	@$(BIN)/thlib edit out/recording.mp4 --replace "nine=seven" --replace "Monday=Friday" \
		--sound out/words.mp4 --sound-text "our shop opens at seven on Friday" -o out/edited.mp4
	@$(BIN)/python tools/report.py pair out/recording.mp4 out/edited.mp4 out/edited.html

PROFILE := smoke
site: setup
	@$(BIN)/python tools/build_site.py --profile $(PROFILE)

test: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m pytest

bench: setup
	@$(BIN)/python -m pytest tests/benchmarks -s -o python_files='bench_*.py'

clean:
	rm -rf out .pytest_cache .ruff_cache .benchmarks
