"""Inputs changed at random: what comes of each is an answer or an error of the documented kinds, in bounded time."""
