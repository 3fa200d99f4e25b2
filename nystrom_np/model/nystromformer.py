"""The bare model: embeddings and the stack of encoder layers."""

from typing import Any

from nystrom_np.array_module import Array, within_memory
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import encode
from nystrom_np.model.base import NystromformerPreTrainedModel
from nystrom_np.model.inputs import check_inputs
from nystrom_np.model.packing import collect
from nystrom_np.model.parameters import body_shapes
from nystrom_np.outputs import BaseModelOutput

__all__ = ["NystromformerModel"]


class NystromformerModel(NystromformerPreTrainedModel):
    """The bare Nyströmformer: token ids in, hidden states out.

    Parameters
    ----------
    config : NystromformerConfig
    seed : int
        Of the random first values, where no parameters are given.
    parameters : mapping of str to array, optional
        All parameters under their state-dict names (``embeddings.word_embeddings.weight``, …), used as they are.
    dtype : {"float32", "float64", "float16"}, optional
        Of the parameters and the outputs.

    References
    ----------
    Xiong et al., arXiv 2102.03902; ``NystromformerModel`` in transformers 4.37.2.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_landmarks=4)
    >>> model = NystromformerModel(config, seed=0)
    >>> model([[7, 3, 9, 1, 4, 4]]).last_hidden_state.shape
    (1, 6, 8)
    """

    @classmethod
    def parameter_shapes(cls, config: NystromformerConfig) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of the parameters."""
        return body_shapes(config)

    @within_memory("this forward pass")
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput | tuple[Array, ...]:
        """Encode a batch of sequences.

        Parameters
        ----------
        input_ids : array of integers, (B, L)
            Or nested lists; so too for all that follow.
        attention_mask : array of 0 and 1 or bool, (B, L) or (1, L), optional
            1 for real tokens, 0 for padding. Where attention is exact also (B, L, L), per query.
        token_type_ids : array of integers, (B, L), optional
            0 by default. Also (L,), (1, L) and (B, 1).
        position_ids : array of integers, (B, L), optional
            2, 3, … by default: rows of the position table. Also (L,), (1, L) and (B, 1).
        head_mask : array of 0 and 1, (H,) or (layers, H), optional
            A head with 0 contributes nothing to the output projection. The reference ignores this argument.
        inputs_embeds : array of floats, (B, L, D), optional
            In place of the ids' word embeddings.
        output_attentions, output_hidden_states, return_dict : bool, optional
            What to return; by default what the configuration says.

        Returns
        -------
        BaseModelOutput, or tuple
            With ``last_hidden_state`` (B, L, D).

        Raises
        ------
        ValueError, IndexError
            If an argument is wrong: see :func:`nystrom_np.model.inputs.check_inputs`.
        """
        checks = self.checks()
        inputs = check_inputs(
            checks, self.config, input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds
        )
        config = self.asked(output_attentions, output_hidden_states)
        states, attentions = encode(self._tree, config, *inputs.arguments)
        record = BaseModelOutput(inputs.layout.unpack(states[-1]), *collect(config, inputs.layout, states, attentions))
        return self.respond(checks, record, return_dict)

    forward = __call__
