"""The five heads: what each adds to the encoder, from its last hidden state to logits and a loss."""

from typing import Any

import numpy as np

from nystrom_np.array_module import Array, get_array_module, move_like, within_memory
from nystrom_np.config import NystromformerConfig
from nystrom_np.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    get_activation,
    layer_norm,
    linear,
    mean_squared_error,
    relu,
)
from nystrom_np.model.base import NystromformerPreTrainedModel
from nystrom_np.model.encoder import affine, over_rows
from nystrom_np.model.inputs import Checks, blank_padding, check_inputs, check_shape
from nystrom_np.model.nystromformer import NystromformerModel
from nystrom_np.model.packing import Encoded
from nystrom_np.model.parameters import Shapes, body_shapes, dense_shapes, norm_shapes, scoped
from nystrom_np.outputs import (
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)

__all__ = [
    "NystromformerForMaskedLM",
    "NystromformerForMultipleChoice",
    "NystromformerForQuestionAnswering",
    "NystromformerForSequenceClassification",
    "NystromformerForTokenClassification",
]

IGNORED = -100


class _HeadedModel(NystromformerPreTrainedModel):
    """An encoder, ``nystromformer``, with a head whose parameters stand beside its own in the state dict."""

    nystromformer: NystromformerModel

    @classmethod
    def parameter_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the parameters."""
        return scoped("nystromformer.", body_shapes(config)) | cls.head_shapes(config)

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        raise NotImplementedError

    def _set(self, parameters: Any) -> None:
        super()._set(parameters)
        prefix = "nystromformer."
        body = {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}
        self.nystromformer = NystromformerModel(self.config, parameters=body)


class NystromformerForMaskedLM(_HeadedModel):
    """Nyströmformer with a language modelling head: which tokens were masked.

    The decoder is the word embedding table itself, unless ``tie_word_embeddings=False``.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``cls.predictions.``.

    References
    ----------
    ``NystromformerForMaskedLM`` in transformers 4.37.2.

    Examples
    --------
    >>> config = NystromformerConfig(
    ...     vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ... )
    >>> model = NystromformerForMaskedLM(config)
    >>> out = model([[7, 3, 9]], labels=[[-100, 3, -100]])
    >>> out.logits.shape, out.loss.shape
    ((1, 3, 50), ())
    """

    per_token = ("logits", "hidden_states")

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters; a tied decoder is not among them."""
        width, vocabulary = config.hidden_size, config.vocab_size
        shapes = dense_shapes("transform.dense", width, width) | norm_shapes("transform.LayerNorm", width)
        shapes["bias"] = (vocabulary,)
        if not config.tie_word_embeddings:
            shapes["decoder.weight"] = (vocabulary, width)
        return scoped("cls.predictions.", shapes)

    @within_memory("this forward pass")
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskedLMOutput | tuple[Array, ...]:
        """Score every token of the vocabulary at every position.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds
            As in :class:`NystromformerModel`.
        labels : array of integers, (B, L), optional
            The true tokens; −100 where the loss is to ignore the position.
        output_attentions, output_hidden_states, return_dict : bool, optional
            What to return; by default what the configuration says.

        Returns
        -------
        MaskedLMOutput, or tuple
            With ``logits`` (B, L, V) and, if there are labels, ``loss``: their mean cross-entropy.

        Raises
        ------
        ValueError, IndexError
            If an argument is wrong.
        """
        checks = Checks(self._home)
        arguments = _arguments(input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds)
        inputs = check_inputs(checks, self.config, **arguments)
        encoded = self.nystromformer.encode(inputs, output_attentions, output_hidden_states)
        logits = encoded.padded(self.decode(encoded.last_hidden_state))
        loss = None if labels is None else _token_loss(checks, encoded, logits, labels)
        record = MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions)
        return self.respond(checks, record, return_dict)

    forward = __call__

    def decode(self, x: Array) -> Array:
        """Logits (B, L, V) of hidden states (B, L, D): dense, activation, LayerNorm, then the decoder."""
        p, config = self._tree["cls"]["predictions"], self.config
        words = self._tree["nystromformer"]["embeddings"]["word_embeddings"]["weight"]

        act, norm = get_activation(config.hidden_act), p["transform"]["LayerNorm"]

        def finish(y: Array) -> Array:
            return layer_norm(act(y), **norm, eps=config.layer_norm_eps)

        def transform(x: Array, out: Array | None) -> tuple[Array]:
            return (affine(p["transform"]["dense"], x, finish, out=out),)

        (transformed,) = over_rows(transform, x, width=config.hidden_size)
        return linear(transformed, words if config.tie_word_embeddings else p["decoder"]["weight"], p["bias"])


class NystromformerForSequenceClassification(_HeadedModel):
    """Nyströmformer with a head that classifies, or measures, a whole sequence by its first token.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``classifier.``.

    References
    ----------
    ``NystromformerForSequenceClassification`` in transformers 4.37.2.

    Examples
    --------
    >>> config = NystromformerConfig(
    ...     vocab_size=50,
    ...     hidden_size=8,
    ...     num_hidden_layers=1,
    ...     num_attention_heads=2,
    ...     intermediate_size=16,
    ...     num_labels=3,
    ... )
    >>> model = NystromformerForSequenceClassification(config)
    >>> out = model([[7, 3, 9]], labels=[2])
    >>> out.logits.shape, out.loss.shape
    ((1, 3), ())
    """

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        width = config.hidden_size
        dense = dense_shapes("classifier.dense", width, width)
        return dense | dense_shapes("classifier.out_proj", width, config.num_labels)

    @within_memory("this forward pass")
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Array, ...]:
        """Score every label for each sequence.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds
            As in :class:`NystromformerModel`.
        labels : array, optional
            Integers (B,) or (B, 1) for one label to a sequence, −100 to ignore it; floats (B, num_labels) of 0
            and 1 for several; floats for regression. Which of the three is ``config.problem_type``; where this
            is None, one label means regression, int64 and int32 labels a single label, any others several.
        output_attentions, output_hidden_states, return_dict : bool, optional
            What to return; by default what the configuration says.

        Returns
        -------
        SequenceClassifierOutput, or tuple
            With ``logits`` (B, num_labels) and, if there are labels, ``loss``: cross-entropy, binary
            cross-entropy or squared error.

        Raises
        ------
        ValueError, IndexError
            If an argument is wrong.
        """
        checks = Checks(self._home)
        arguments = _arguments(input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds)
        inputs = check_inputs(checks, self.config, **arguments)
        encoded = self.nystromformer.encode(inputs, output_attentions, output_hidden_states)
        p = self._tree["classifier"]
        hidden = get_activation(self.config.hidden_act)(linear(encoded.first_token(), **p["dense"]))
        logits = linear(hidden, **p["out_proj"])
        loss = None if labels is None else self._loss(checks, logits, labels)
        record = SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)
        return self.respond(checks, record, return_dict)

    forward = __call__

    def _loss(self, checks: Checks, logits: Array, labels: Any) -> Array:
        batch, classes = logits.shape
        labels = checks.array("labels", labels, "biuf")
        problem = self.config.problem_type or _problem_type(classes, labels)
        if problem == "single_label_classification":
            check_shape("labels", labels, (batch,), (batch, 1), words="(batch,) or (batch, 1)")
            labels = checks.array("labels", labels, "iu")
            return cross_entropy(logits, checks.labels("labels", labels, classes).ravel())
        targets = move_like(labels, logits).astype(logits.dtype)
        if problem == "multi_label_classification":
            check_shape("labels", targets, (batch, classes), words="(batch, num_labels)")
            return binary_cross_entropy_with_logits(logits, targets)
        if classes == 1:
            check_shape("labels", targets, (batch,), (batch, 1), words="(batch,) or (batch, 1)")
            return mean_squared_error(logits.ravel(), targets.ravel())
        # the reference's broadcast: labels of one axis stand for a row of labels, not for a column of sequences
        allowed = [(batch, classes), (1, classes), (batch, 1), (1, 1), (classes,), (1,)]
        check_shape("labels", targets, *allowed, words="broadcastable to (batch, num_labels)")
        return mean_squared_error(logits, get_array_module(logits).broadcast_to(targets, logits.shape))


def _problem_type(classes: int, labels: Array) -> str:
    if classes == 1:
        return "regression"
    single = labels.dtype in ("int64", "int32")
    return "single_label_classification" if single else "multi_label_classification"


class NystromformerForMultipleChoice(_HeadedModel):
    """Nyströmformer with a head that picks one of several sequences, each scored by its first token.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``pre_classifier.`` and ``classifier.``.

    References
    ----------
    ``NystromformerForMultipleChoice`` in transformers 4.37.2.

    Examples
    --------
    >>> config = NystromformerConfig(
    ...     vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ... )
    >>> model = NystromformerForMultipleChoice(config)
    >>> out = model([[[7, 3, 9], [7, 3, 4]]], labels=[1])
    >>> out.logits.shape, out.loss.shape
    ((1, 2), ())
    """

    choices = True

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        width = config.hidden_size
        return dense_shapes("pre_classifier", width, width) | dense_shapes("classifier", width, 1)

    @within_memory("this forward pass")
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MultipleChoiceModelOutput | tuple[Array, ...]:
        """Score every choice.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids, position_ids : arrays, (B, C, L)
        inputs_embeds : array of floats, (B, C, L, D)
            Otherwise as in :class:`NystromformerModel`: the choices are folded into the batch.
        head_mask : array, optional
            As in :class:`NystromformerModel`.
        labels : array, optional
            Integers (B,), the right choices, −100 to ignore one; or floats (B, C), a distribution over them.
        output_attentions, output_hidden_states, return_dict : bool, optional
            What to return; by default what the configuration says. Hidden states and attentions have B · C rows.

        Returns
        -------
        MultipleChoiceModelOutput, or tuple
            With ``logits`` (B, C) and, if there are labels, ``loss``: their mean cross-entropy.

        Raises
        ------
        ValueError, IndexError
            If an argument is wrong.
        """
        checks = Checks(self._home)
        arguments = _arguments(input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds)
        batch, choices = self._fold(checks, arguments)
        inputs = check_inputs(checks, self.config, **arguments)
        encoded = self.nystromformer.encode(inputs, output_attentions, output_hidden_states)
        hidden = relu(linear(encoded.first_token(), **self._tree["pre_classifier"]))
        logits = linear(hidden, **self._tree["classifier"]).reshape(batch, choices)
        loss = None if labels is None else self._loss(checks, logits, labels)
        record = MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions)
        return self.respond(checks, record, return_dict)

    forward = __call__

    def _fold(self, checks: Checks, arguments: dict[str, Any]) -> tuple[int, int]:
        """Fold the choices of every argument into the batch, in place; return the two sizes."""
        name = "input_ids" if arguments["input_ids"] is not None else "inputs_embeds"
        if arguments[name] is None:
            return 0, 0  # which check_inputs refuses
        first = checks.array(name, arguments[name], "biuf")
        if first.ndim != _CHOICE_AXES[name]:
            words = "(batch, choices, length" + (", hidden_size)" if name == "inputs_embeds" else ")")
            raise ValueError(f"{name} must have shape {words}; found {first.shape}")
        checks.choices = first.shape[1]
        for name, axes in _CHOICE_AXES.items():
            if arguments[name] is None:
                continue
            array = checks.array(name, arguments[name], "biuf")
            if array.ndim == axes:
                check_shape(name, array, first.shape[:2] + array.shape[2:], words="(batch, choices, ...)")
                arguments[name] = array.reshape(-1, *array.shape[2:])
        return first.shape[0], first.shape[1]

    def _loss(self, checks: Checks, logits: Array, labels: Any) -> Array:
        labels = checks.array("labels", labels, "iuf")
        if labels.dtype.kind == "f":
            check_shape("labels", labels, logits.shape, words="(batch, choices) for a distribution")
            return cross_entropy(logits, move_like(labels, logits).astype(logits.dtype))
        check_shape("labels", labels, logits.shape[:1], words="(batch,)")
        return cross_entropy(logits, checks.labels("labels", labels, logits.shape[1]))


_CHOICE_AXES = {
    "input_ids": 3,
    "attention_mask": 3,
    "token_type_ids": 3,
    "position_ids": 3,
    "inputs_embeds": 4,
}


class NystromformerForTokenClassification(_HeadedModel):
    """Nyströmformer with a head that labels every token.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``classifier.``.

    References
    ----------
    ``NystromformerForTokenClassification`` in transformers 4.37.2.

    Examples
    --------
    >>> config = NystromformerConfig(
    ...     vocab_size=50,
    ...     hidden_size=8,
    ...     num_hidden_layers=1,
    ...     num_attention_heads=2,
    ...     intermediate_size=16,
    ...     num_labels=4,
    ... )
    >>> model = NystromformerForTokenClassification(config)
    >>> out = model([[7, 3, 9]], labels=[[0, 3, -100]])
    >>> out.logits.shape, out.loss.shape
    ((1, 3, 4), ())
    """

    per_token = ("logits", "hidden_states")

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        return dense_shapes("classifier", config.hidden_size, config.num_labels)

    @within_memory("this forward pass")
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Array, ...]:
        """Score every label for each token.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds
            As in :class:`NystromformerModel`.
        labels : array of integers, (B, L), optional
            −100 where the loss is to ignore the position.
        output_attentions, output_hidden_states, return_dict : bool, optional
            What to return; by default what the configuration says.

        Returns
        -------
        TokenClassifierOutput, or tuple
            With ``logits`` (B, L, num_labels) and, if there are labels, ``loss``: their mean cross-entropy.

        Raises
        ------
        ValueError, IndexError
            If an argument is wrong.
        """
        checks = Checks(self._home)
        arguments = _arguments(input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds)
        inputs = check_inputs(checks, self.config, **arguments)
        encoded = self.nystromformer.encode(inputs, output_attentions, output_hidden_states)
        logits = encoded.padded(linear(encoded.last_hidden_state, **self._tree["classifier"]))
        loss = None if labels is None else _token_loss(checks, encoded, logits, labels)
        record = TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)
        return self.respond(checks, record, return_dict)

    forward = __call__


class NystromformerForQuestionAnswering(_HeadedModel):
    """Nyströmformer with a head that finds where in a text the answer begins and ends.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``qa_outputs.``. The head has two outputs, whatever ``num_labels`` says.

    References
    ----------
    ``NystromformerForQuestionAnswering`` in transformers 4.37.2.

    Examples
    --------
    >>> config = NystromformerConfig(
    ...     vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    ... )
    >>> model = NystromformerForQuestionAnswering(config)
    >>> out = model([[7, 3, 9]], start_positions=[1], end_positions=[2])
    >>> out.start_logits.shape, out.end_logits.shape, out.loss.shape
    ((1, 3), (1, 3), ())
    """

    per_token = ("start_logits", "end_logits", "hidden_states")

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        return dense_shapes("qa_outputs", config.hidden_size, 2)

    @within_memory("this forward pass")
    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> QuestionAnsweringModelOutput | tuple[Array, ...]:
        """Score every token as the first and as the last of the answer.

        Parameters
        ----------
        input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds
            As in :class:`NystromformerModel`.
        start_positions, end_positions : arrays of integers, (B,) or (B, 1), optional
            Where the answer begins and ends. Clamped to 0 … L; L itself is ignored by the loss, as an answer that
            was cut off. (So −100 counts as position 0.)
        output_attentions, output_hidden_states, return_dict : bool, optional
            What to return; by default what the configuration says.

        Returns
        -------
        QuestionAnsweringModelOutput, or tuple
            With ``start_logits`` and ``end_logits`` (B, L) and, if both positions are there, ``loss``: the mean
            of their cross-entropies.

        Raises
        ------
        ValueError, IndexError
            If an argument is wrong.
        """
        checks = Checks(self._home)
        arguments = _arguments(input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds)
        inputs = check_inputs(checks, self.config, **arguments)
        encoded = self.nystromformer.encode(inputs, output_attentions, output_hidden_states)
        logits = encoded.padded(linear(encoded.last_hidden_state, **self._tree["qa_outputs"]))
        start, end = logits[..., 0], logits[..., 1]
        loss = None
        if start_positions is not None and end_positions is not None:
            starts = _position_loss(checks, encoded, start, "start_positions", start_positions)
            ends = _position_loss(checks, encoded, end, "end_positions", end_positions)
            loss = (starts + ends) / 2
        record = QuestionAnsweringModelOutput(loss, start, end, encoded.hidden_states, encoded.attentions)
        return self.respond(checks, record, return_dict)

    forward = __call__


def _arguments(
    input_ids: Any,
    attention_mask: Any,
    token_type_ids: Any,
    position_ids: Any,
    head_mask: Any,
    inputs_embeds: Any,
) -> dict[str, Any]:
    """The encoder's arguments by name."""
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": token_type_ids,
        "position_ids": position_ids,
        "head_mask": head_mask,
        "inputs_embeds": inputs_embeds,
    }


def _token_loss(checks: Checks, encoded: Encoded, logits: Array, labels: Any) -> Array:
    """Cross-entropy over all tokens (B, L, classes); set-aside padding is ignored."""
    batch, length, classes = logits.shape
    labels = check_shape("labels", checks.array("labels", labels, "iu"), (batch, length), words="(batch, length)")
    labels = checks.labels("labels", blank_padding(labels, encoded.real, IGNORED), classes, IGNORED)
    return cross_entropy(logits.reshape(-1, classes), labels.ravel(), IGNORED)


def _position_loss(checks: Checks, encoded: Encoded, logits: Array, name: str, positions: Any) -> Array:
    """Cross-entropy over positions (B, L), those beyond the sequence ignored; set-aside padding has no share."""
    xp = get_array_module(logits)
    batch, length = logits.shape
    positions = move_like(checks.array(name, positions, "iu"), logits)
    check_shape(name, positions, (batch,), (batch, 1), words="(batch,) or (batch, 1)")
    labels = xp.clip(positions.ravel().astype("int64"), 0, length)
    if encoded.real is not None:
        inside = np.pad(encoded.real, [(0, 0), (0, 1)])  # a position at padding is none of the sequence: ignored
        labels = xp.where(move_like(inside, labels)[xp.arange(batch), labels], labels, length)
        logits = xp.where(move_like(encoded.real, logits), logits, xp.finfo(logits.dtype).min)
    return cross_entropy(logits, labels, ignore_index=length)
