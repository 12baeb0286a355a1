"""All faults by name, and the command that runs them."""

import argparse
import json
import sys
import time

import faults_content
import faults_network
import faults_nodes
from fault import Fault
from session import Session
from shell import TestbedError

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault for module in (faults_nodes, faults_content, faults_network) for fault in module.ALL
}


def list_all() -> None:
    for name, fault in FAULTS.items():
        print(f"{name}{' (short)' if fault.is_short else ''}\n    {' '.join(fault.text.split())}")


def chosen(options: argparse.Namespace) -> list[type[Fault]]:
    if options.all:
        return list(FAULTS.values())
    if options.short:
        return [fault for fault in FAULTS.values() if fault.is_short]
    unknown = [name for name in options.names if name not in FAULTS]
    if unknown or not options.names:
        raise TestbedError(f"no fault {', '.join(unknown) or 'is named'}; run.py fault --list tells their names")
    return [FAULTS[name] for name in options.names]


def run_one(fault: type[Fault], options: argparse.Namespace) -> dict:
    """One run in a site of its own; a run that cannot be made has failed."""
    own = argparse.Namespace(**vars(options))
    own.nodes = options.nodes or fault.nodes
    own.blocks = options.blocks or fault.blocks
    own.hub = fault.hub
    if own.logs:
        own.logs = f"{own.logs}/{fault.name}"
    start = time.monotonic()
    try:
        with Session(own) as session:
            run = fault(session)
            try:
                run.run()
                result = run.result()
            except TestbedError as error:
                result = {**run.result(), "error": str(error), "passed": False}
    except TestbedError as error:
        result = {"fault": fault.name, "figures": [], "events": [], "failed": {}, "error": str(error), "passed": False}
    result["seconds"] = round(time.monotonic() - start, 1)
    return result


def run_chosen(options: argparse.Namespace) -> int:
    """One JSON line for each fault on stdout; what happened on stderr. 1 when a limit was not kept."""
    missed = []
    for fault in chosen(options):
        result = run_one(fault, options)
        print(json.dumps(result, ensure_ascii=False), flush=True)
        tell(result)
        if not result["passed"]:
            missed.append(fault.name)
    if missed:
        print(f"testbed: limits not kept: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def tell(result: dict) -> None:
    print(f"{'passed' if result['passed'] else 'MISSED'}  {result['fault']}  ({result['seconds']} s)", file=sys.stderr)
    for event in result["events"]:
        print(f"        at {event}", file=sys.stderr)
    for figure in result["figures"]:
        limit = "" if figure["limit"] is None else f"  {'≥' if figure['is_least'] else '≤'} {figure['limit']:g}"
        print(f"    {' ' if figure['is_kept'] else '✘'}   {figure['value']:>10g}{limit:<10}  {figure['name']}", file=sys.stderr)
    for index, line in result["failed"].items():
        print(f"    ✘   n{index}: {line}", file=sys.stderr)
    if "error" in result:
        print(f"    ✘   {result['error']}", file=sys.stderr)
