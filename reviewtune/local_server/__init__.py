"""The provider in the box: OpenAI's protocol over a small language model on this machine.

Its own process, loopback only: `python -m reviewtune.local_server`. Nothing in reviewtune imports it.
"""
