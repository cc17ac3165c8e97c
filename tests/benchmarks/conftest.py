"""Options of the benchmarks."""


def pytest_addoption(parser):
    """`--limit n`: every n-th case."""
    parser.addoption("--limit", type=int, default=1, help="take every n-th case")
