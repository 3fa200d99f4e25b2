"""The activations that a Nyströmformer configuration can name.

Each is one formula of floats, of any shape and each element alone, which :func:`nystrom_np.fast.elementwise` has take
one pass over memory.
"""

import math
from collections.abc import Callable

from nystrom_np.array_module import Array, get_array_module, special
from nystrom_np.fast import elementwise
from nystrom_np.shapes import Float

__all__ = [
    "ACTIVATIONS",
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "get_activation",
    "laplace",
    "leaky_relu",
    "linear_activation",
    "mish",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "tanh",
]

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@elementwise
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gaussian error linear unit: x Φ(x) = x/2 · (1 + erf(x / √2)).

    References
    ----------
    Hendrycks and Gimpel, arXiv 1606.08415.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    erf = special(get_array_module(x)).erf
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


@elementwise
def gelu_10(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU clipped to [−10, 10], for quantised models.

    Examples
    --------
    >>> import numpy as np
    >>> gelu_10(np.array([-1.0, 0.0, 50.0])).round(4)
    array([-0.1587,  0.    , 10.    ])
    """
    xp = get_array_module(x)
    erf = special(xp).erf
    return xp.clip(0.5 * x * (1.0 + erf(x * math.sqrt(0.5))), -10.0, 10.0)


@elementwise
def gelu_new(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh form of GELU: x/2 · (1 + tanh u) with u = √(2/π) (x + 0.044715 x³), Nyströmformer's default.

    It is within 5e-4 of :func:`gelu`.

    References
    ----------
    Hendrycks and Gimpel, arXiv 1606.08415, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> gelu_new(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + get_array_module(x).tanh(u))


@elementwise
def gelu_fast(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """:func:`gelu_new` with √(2/π) rounded to 0.7978845608.

    Examples
    --------
    >>> import numpy as np
    >>> gelu_fast(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    u = 0.7978845608 * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + get_array_module(x).tanh(u))


@elementwise
def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sigmoid form of GELU: x · σ(1.702 x).

    Examples
    --------
    >>> import numpy as np
    >>> quick_gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1542,  0.    ,  0.8458])
    """
    xp = get_array_module(x)
    return x * (0.5 + 0.5 * xp.tanh(0.851 * x))  # σ(y) = (1 + tanh(y/2)) / 2, which cannot overflow


@elementwise
def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit: max(x, 0).

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 1.0]))
    array([0., 0., 1.])
    """
    return get_array_module(x).maximum(x, 0.0)


@elementwise
def relu2(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Squared rectified linear unit: max(x, 0)².

    Examples
    --------
    >>> import numpy as np
    >>> relu2(np.array([-1.0, 0.0, 3.0]))
    array([0., 0., 9.])
    """
    positive = get_array_module(x).maximum(x, 0.0)
    return positive * positive


@elementwise
def relu6(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit capped at six: min(max(x, 0), 6).

    Examples
    --------
    >>> import numpy as np
    >>> relu6(np.array([-1.0, 3.0, 8.0]))
    array([0., 3., 6.])
    """
    return get_array_module(x).clip(x, 0.0, 6.0)


@elementwise
def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Leaky rectified linear unit: x where positive, 0.01 x elsewhere.

    Examples
    --------
    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 0.0, 1.0]))
    array([-0.01,  0.  ,  1.  ])
    """
    return get_array_module(x).maximum(x, 0.01 * x)


@elementwise
def selu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Scaled exponential linear unit: λ x where positive, λ α (eˣ − 1) elsewhere.

    References
    ----------
    Klambauer et al., arXiv 1706.02515.

    Examples
    --------
    >>> import numpy as np
    >>> selu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-1.1113,  0.    ,  1.0507])
    """
    xp = get_array_module(x)
    negative = xp.expm1(xp.minimum(x, 0.0))  # of the negative part alone, so that nothing overflows
    return SELU_SCALE * (xp.maximum(x, 0.0) + SELU_ALPHA * negative)


@elementwise
def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic function: σ(x) = 1 / (1 + e⁻ˣ).

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1.0])).round(4)
    array([0.    , 0.5   , 0.7311])
    """
    xp = get_array_module(x)
    decay = xp.exp(-xp.abs(x))  # at most one, so that nothing overflows
    return xp.where(x >= 0.0, 1.0, decay) / (1.0 + decay)


@elementwise
def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Sigmoid linear unit, also called swish: x · σ(x).

    Examples
    --------
    >>> import numpy as np
    >>> silu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    return x * sigmoid(x)


@elementwise
def mish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Mish: x · tanh(log(1 + eˣ)).

    References
    ----------
    Misra, arXiv 1908.08681.

    Examples
    --------
    >>> import numpy as np
    >>> mish(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.3034,  0.    ,  0.8651])
    """
    xp = get_array_module(x)
    softplus = xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))
    return x * xp.tanh(softplus)


@elementwise
def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.7616,  0.    ,  0.7616])
    """
    return get_array_module(x).tanh(x)


def linear_activation(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """No activation: x itself.

    Examples
    --------
    >>> import numpy as np
    >>> linear_activation(np.array([-1.0, 2.0]))
    array([-1.,  2.])
    """
    return x


@elementwise
def laplace(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The Laplace activation of Mega: (1 + erf((x − 0.707107) / (0.282095 √2))) / 2.

    References
    ----------
    Ma et al., arXiv 2209.10655.

    Examples
    --------
    >>> import numpy as np
    >>> laplace(np.array([0.0, 0.707107, 2.0])).round(4)
    array([0.0061, 0.5   , 1.    ])
    """
    erf = special(get_array_module(x)).erf
    return 0.5 * (1.0 + erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_10": gelu_10,
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": gelu_new,
    "gelu_accurate": gelu_new,
    "gelu_fast": gelu_fast,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": relu2,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "selu": selu,
    "silu": silu,
    "swish": silu,
    "mish": mish,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "linear": linear_activation,
    "laplace": laplace,
}
"""Name in a configuration's ``hidden_act`` → function."""


def get_activation(name: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return the activation of a name; a callable is returned as it is.

    Raises
    ------
    ValueError
        If no activation has the name.

    Examples
    --------
    >>> get_activation("swish") is silu
    True
    """
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act must be a callable or one of {', '.join(ACTIVATIONS)}; found {name!r}")
    return ACTIVATIONS[name]
