"""``ozonetel resume``: continue the upload of a journal."""

from __future__ import annotations

import argparse
import os
from typing import Final
from urllib.parse import urlsplit

from ...config import DEFAULT_BASE_URL, Cleaning, is_loopback
from ...errors import ConfigurationError, JournalError
from ...journal.journal import Header, Journal
from ...protocol.params import Action
from ...rows.files import FileRows, reopen
from ..arguments import add_changes_argument, add_output_arguments, add_service_arguments, check_changes
from ..screen import Screen
from .upload import UploadJob, add_job_arguments, perform, resume_command

__all__ = ["add_arguments", "run"]

# A journal may come from elsewhere, and its host gets the API key: others must be named by the user.
_HOSTS: Final = frozenset({DEFAULT_BASE_URL, "https://api.ccaas.ozonetel.com"})
_ACTIONS: Final[dict[str, Action]] = {"start": "start", "stop": "stop"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel resume``."""
    parser.add_argument("journal", help="of an upload from a file; it holds campaign, file, columns and options")
    parser.add_argument("--file", help="the input file, when it has moved; its rows must be the same")
    parser.add_argument(
        "--check-duplicate",
        action="store_true",
        help="also where the upload began without it: from now on skip numbers the campaign has, "
        "which makes --on-unknown resend possible",
    )
    add_changes_argument(parser)
    add_job_arguments(parser)
    add_service_arguments(parser, "bulk")
    add_output_arguments(parser)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Continue; the exit code."""
    resume = resume_command(args, _changed(args))  # before the journal's values stand in for what was not given
    journal = await Journal.attach(args.journal)
    try:
        header = await journal.header()
    finally:
        await journal.close()
    username, _, host = header.account.rpartition(" at ")
    args.username = args.username or os.environ.get("OZONETEL_USERNAME") or username
    args.base_url = args.base_url or os.environ.get("OZONETEL_BASE_URL") or (host if _is_trusted(host) else None)
    params, clean = header.params, Cleaning.from_policy(header.cleaning) if header.cleaning else None
    check_changes(args, clean)
    job = UploadJob(
        campaign=header.campaign,
        rows=_rows(args, header),
        columns=header.columns,
        action=_ACTIONS.get(params.get("action", "")),
        check_duplicate=args.check_duplicate or params.get("checkDuplicate") == "true",
        is_delete=params.get("isDelete") == "true",
        journal=args.journal,
        callback_url=args.callback_url or _callback_url(args, params),
        resume=resume,
        clean=clean,
        port=_port(host) if args.simulate else 0,
    )
    return await perform(job, args, screen)


def _rows(args: argparse.Namespace, header: Header) -> FileRows:
    if header.source is None:
        raise ConfigurationError(
            f"journal {args.journal} is not of an upload from a file; run the program again that made the upload"
        )
    try:
        return reopen({**header.source, "path": args.file or header.source["path"]})
    except (KeyError, ValueError):
        raise JournalError(f"journal {args.journal} is damaged: it does not tell its input file") from None


def _callback_url(args: argparse.Namespace, params: dict[str, str]) -> str | None:
    # A simulated upload was called back at a port of its own, which is gone.
    return None if args.simulate else params.get("callBackUrl")


def _changed(args: argparse.Namespace) -> tuple[str, ...]:
    words = ["--file", args.file] if args.file else []
    words += ["--check-duplicate"] if args.check_duplicate else []
    words += ["--callback-url", args.callback_url] if args.callback_url else []
    return tuple(words)


def _is_trusted(host: str) -> bool:
    return host in _HOSTS or _is_this_machine(host)


def _is_this_machine(host: str) -> bool:
    try:
        return is_loopback(urlsplit(host).hostname or "")
    except ValueError:
        return False


def _port(host: str) -> int:
    """The port of the simulator that the upload began with, since an account's host is part of the journal."""
    if not _is_this_machine(host):
        raise ConfigurationError("--simulate: the journal is of an upload to the service itself, not to a simulator")
    return urlsplit(host).port or 0
