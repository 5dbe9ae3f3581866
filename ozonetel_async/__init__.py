"""Asyncio client for Ozonetel CloudAgent's campaign APIs, with exact rate-limit queues built in."""

__version__ = "0.1.0"
