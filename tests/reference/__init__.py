"""The reference, transformers, run in an environment of its own.

``environment``          makes that environment once
``cases``                what is computed: configurations, weights and inputs, without torch
``run_reference``        computes it with transformers, inside the environment
``client``               asks the above from a test
``store``                writes the answers that the ordinary test run reads
``gradients``            the same for the gradients of losses, with cases of its own
"""
