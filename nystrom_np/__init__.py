"""Nyströmformer in hand-written NumPy: readable, exact, and free of PyTorch."""
