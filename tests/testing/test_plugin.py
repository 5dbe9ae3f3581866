"""The pytest plugin in a user's own test run."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ozonetel_async

pytest_plugins = ["pytester"]

TESTS = """
import pytest

{mark}
async def test_simulator(ozonetel_simulator):
    assert ozonetel_simulator.base_url.startswith("http://127.0.0.1:")
    assert ozonetel_simulator.campaigns["Diwali"].stored == 0
"""

CLIENT = """
import pytest
from ozonetel_async import Lead

{mark}
async def test_client(ozonetel_client, ozonetel_simulator):
    receipt = await ozonetel_client.add_lead("Diwali", Lead("+919812345678", name="Asha"))
    assert receipt.outcome == "accepted"
    assert ozonetel_simulator.campaigns["Diwali"].numbers["919812345678"] == 1
"""


@pytest.mark.parametrize("source", [TESTS, CLIENT], ids=["simulator", "client"])
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_fixtures_work_in_both_modes(pytester: pytest.Pytester, mode: str, source: str) -> None:
    if source is CLIENT and not hasattr(ozonetel_async, "OzonetelClient"):
        pytest.skip("the client is not there yet")
    pytester.makepyfile(source.format(mark="@pytest.mark.asyncio" if mode == "strict" else ""))
    pytester.makeini(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n")
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("scope", ["module", "session"])
@pytest.mark.parametrize("how", ["marker", "setting"])
def test_fixtures_run_on_the_loop_of_the_test(pytester: pytest.Pytester, scope: str, how: str) -> None:
    """It was 60 s of silence, and then an unknown outcome."""
    mark = f'@pytest.mark.asyncio(loop_scope="{scope}")' if how == "marker" else "@pytest.mark.asyncio"
    pytester.makepyfile(CLIENT.format(mark=mark) + TESTS.format(mark=mark))
    setting = f"asyncio_default_test_loop_scope = {scope}" if how == "setting" else ""
    pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{setting}\n")
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error")
    result.assert_outcomes(passed=2)


def test_without_pytest_asyncio_the_fixture_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(ozonetel_simulator): pass")
    pytester.makeconftest("""
        import importlib.util, sys
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *more: None if name == "pytest_asyncio" else found(name, *more)
        sys.modules.pop("ozonetel_async.testing.plugin", None)
        from ozonetel_async.testing.plugin import ozonetel_simulator
    """)
    result = pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:randomly")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install pytest-asyncio*"])


def test_loading_the_plugin_imports_no_simulator() -> None:
    # What the package itself imports is not the plugin's doing.
    code = (
        "import sys, pytest_asyncio, ozonetel_async; before = set(sys.modules); import ozonetel_async.testing.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["ozonetel_async.testing", "ozonetel_async.testing.plugin"]
