"""``ozonetel upload``: a file of leads into a campaign."""

from __future__ import annotations

import argparse

from ..arguments import add_file_arguments, add_output_arguments, add_service_arguments, open_rows
from ..screen import Screen
from .upload_job import UploadJob, add_job_arguments, perform, resume_command

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``ozonetel upload``."""
    add_file_arguments(parser)
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="keep a durable record there: after a crash, the same command or resume continues the upload",
    )
    parser.add_argument("--action", choices=("start", "stop"), help="start or stop the campaign as well")
    skip = parser.add_mutually_exclusive_group()
    skip.add_argument("--check-duplicate", action="store_true", help="skip numbers the campaign or the request has")
    skip.add_argument("--is-delete", action="store_true", help="skip numbers the campaign has")
    add_job_arguments(parser)
    add_service_arguments(parser, "bulk")
    add_output_arguments(parser)


async def run(args: argparse.Namespace, screen: Screen) -> int:
    """Upload the file; the exit code."""
    job = UploadJob(
        campaign=args.campaign,
        rows=open_rows(args),
        action=args.action,
        check_duplicate=args.check_duplicate,
        is_delete=args.is_delete,
        journal=args.journal,
        callback_url=args.callback_url,
        resume=resume_command(args),
    )
    return await perform(job, args, screen)
