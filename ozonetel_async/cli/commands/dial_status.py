"""``ozonetel dial-status``: ask for an export, wait for its callback, save what it brings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import aclosing
from typing import BinaryIO, Final, Literal, get_args

from msgspec import Struct, json

from ...callbacks.receiver import CallbackReceiver
from ...callbacks.results import ExportResult
from ...client.client import OzonetelClient
from ...downloads.fetch import fetch
from ...downloads.links import LinkPolicy
from ...errors import ConfigurationError, DownloadError
from ...masking import redact
from ...models import Lead
from ...protocol.params import CallStatus, DatedBy, LeadStatus
from ..arguments import (
    Address,
    add_link_arguments,
    add_output_arguments,
    add_service_arguments,
    address,
    seconds,
)
from ..connection import connect, link_policy, simulated
from ..listen import listening
from ..screen import Exit, OutputError, ResultFile, Screen

__all__ = ["EXPORT_KEYS", "add_arguments", "run"]

_ANYWHERE: Final = Address("127.0.0.1", 0)
_CALLBACK_SECONDS: Final = 600.0
_SIMULATED_LEADS: Final = 3

EXPORT_KEYS: Final[Mapping[str, str]] = {
    "campaign": "its name",
    "unique_id": "the export's id; empty when the callback did not tell it",
    "succeeded": "whether the service could make the export",
    "message": "the service's text",
    "out": "the file written, or null",
    "kind": "what is in it: file (the export behind the callback's link) or fields (JSON of the callback), or null",
    "bytes": "its size",
    "error": "why the export could not be had, or null",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel dial-status``."""
    parser.add_argument("-c", "--campaign", required=True, help="the campaign")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="where the export goes, or the callback's fields as JSON if it has no link",
    )
    parser.add_argument("--callback-url", metavar="URL", help="public URL that leads to --listen")
    parser.add_argument("--listen", type=address, metavar="HOST:PORT", help="where to take the callback in")
    parser.add_argument(
        "--callback-timeout",
        type=seconds,
        default=_CALLBACK_SECONDS,
        metavar="SECONDS",
        help="how long to wait for the callback (default: %(default)g)",
    )
    chosen = parser.add_argument_group("which leads")
    chosen.add_argument("--since", metavar="TIME", help='such as "2026-01-31 09:00:00", in the platform\'s zone')
    chosen.add_argument("--until", metavar="TIME", help="likewise")
    chosen.add_argument(
        "--dated-by", choices=get_args(DatedBy), help="what the times mean; default: all data, whatever its dates"
    )
    chosen.add_argument("--status", choices=get_args(LeadStatus), default="All")
    chosen.add_argument("--call-status", choices=get_args(CallStatus), default="All")
    chosen.add_argument("--disposition", default="ALL")
    add_link_arguments(parser)
    add_service_arguments(parser, "dial_status")
    parser.add_argument("--dialer-url", help="host of this API; default: OZONETEL_DIALER_URL, else the domestic host")
    add_output_arguments(parser)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Get the export; the exit code."""
    if not args.simulate and (args.callback_url is None or args.listen is None):
        raise ConfigurationError(
            "expected --callback-url and --listen, got no more than one; the service brings the export by a callback"
        )
    receiver = CallbackReceiver(timezone=args.timezone)
    with screen.file(args.out) as out:
        async with (
            listening(args.listen or _ANYWHERE, receiver) as local,
            simulated(args, args.campaign) as simulator,
            connect(args, simulator) as client,
        ):
            if simulator is not None:
                for number in range(_SIMULATED_LEADS):
                    await client.add_lead(args.campaign, Lead(f"+91120000{number:04}", name="Made up"))
            screen.note(f"receiving callbacks at {local}")
            result = await _ask(args, client, receiver, args.callback_url or local)
            saved = await _save(result, link_policy(args), out)
    return _show(args, screen, result, saved)


class _SavedExport(Struct, frozen=True):
    """What is in the file, if anything, and why not."""

    kind: Literal["file", "fields"] | None = None
    size: int = 0
    error: str | None = None


async def _ask(
    args: argparse.Namespace, client: OzonetelClient, receiver: CallbackReceiver, callback_url: str
) -> ExportResult:
    return await client.dial_status(
        args.campaign,
        receiver=receiver,
        callback_url=callback_url,
        timeout=args.callback_timeout,
        since=args.since,
        until=args.until,
        status=args.status,
        call_status=args.call_status,
        disposition=args.disposition,
        dated_by=args.dated_by,
    )


async def _save(result: ExportResult, policy: LinkPolicy, out: ResultFile) -> _SavedExport:
    if not result.succeeded:
        return _SavedExport(error="the service could not make the export")
    try:
        with out.writing() as file:
            if result.link is None:
                return _SavedExport("fields", file.write(json.format(json.encode(dict(result.fields))) + b"\n"))
            return _SavedExport("file", await _download(result, policy, file))
    except DownloadError as failure:
        return _SavedExport(error=f"{failure.state}: {failure}")
    except OutputError as failure:
        return _SavedExport(error=str(failure))


def _show(args: argparse.Namespace, screen: Screen, result: ExportResult, saved: _SavedExport) -> int:
    code = Exit.OK if saved.error is None else Exit.NOT_ALL
    if args.out != "-":
        screen.facts(
            f"Campaign {args.campaign}",
            [("export", result.unique_id or "without id"), ("message", redact(result.message))]
            + ([("written to", f"{args.out}, {saved.size:,} bytes")] if saved.kind else []),
        )
    if saved.error is not None:
        screen.warn(saved.error)
    screen.result(
        {
            "campaign": args.campaign,
            "unique_id": result.unique_id,
            "succeeded": result.succeeded,
            "message": redact(result.message),
            "out": args.out if saved.kind else None,
            "kind": saved.kind,
            "bytes": saved.size,
            "error": saved.error,
            "exit_code": int(code),
        }
    )
    return code


async def _download(result: ExportResult, policy: LinkPolicy, file: BinaryIO) -> int:
    assert result.link is not None
    size = 0
    async with aclosing(fetch(result.link, policy)) as chunks:
        async for chunk in chunks:
            size += file.write(chunk)
    return size
