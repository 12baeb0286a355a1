"""Running other programs, with the one error type of the test bed."""

import os
import signal
import subprocess


class TestbedError(Exception):
    """One line for the person at the terminal: what went wrong, where, what to do."""


def run(*command: str, check: bool = True) -> str:
    """Runs a short command to its end and returns what it printed; both streams go into the error when it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise TestbedError(f"{command[0]} is not installed (needed: iproute2, ethtool, curl; nginx for --hub nginx)") from None
    if check and done.returncode != 0:
        raise TestbedError(f"`{' '.join(command)}` failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def in_namespace(namespace: str, *command: str) -> list[str]:
    """The command line that runs `command` in a network namespace; `ip` replaces itself, so the pid is the command's own."""
    return ["ip", "netns", "exec", namespace, *command]


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without proxies and chunkmesh settings: neither may reach the nodes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("CHUNKMESH_")
    }
    return {**kept, **more}


def stop(process: subprocess.Popen, grace: float) -> None:
    """Ends a process that the test bed started: SIGTERM, then SIGKILL after `grace` seconds; always reaps it."""
    if process.poll() is None and grace > 0:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
    if process.poll() is None:
        process.kill()
    process.wait()
