"""``python -m ozonetel_async`` and the script ``ozonetel``: ends quietly at a Ctrl-C that comes while modules load."""


def main() -> int:
    """Run the command line; the exit code."""
    try:
        # The client and aiohttp with it take a good part of a second to load.
        from .cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
