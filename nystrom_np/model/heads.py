"""The five heads: what each adds to the encoder, from its last hidden state to logits and a loss."""

from typing import Any, ClassVar

import numpy as np

from nystrom_np import definition
from nystrom_np.array_module import Array, get_array_module, move_like, within_memory
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import encode
from nystrom_np.losses import answer_loss, cross_entropy, sequence_loss, token_loss
from nystrom_np.model.base import NystromformerPreTrainedModel
from nystrom_np.model.inputs import Checks, blank_padding, check_inputs, check_shape
from nystrom_np.model.nystromformer import NystromformerModel
from nystrom_np.model.packing import Padded, collect
from nystrom_np.model.parameters import Shapes, body_shapes, dense_shapes, norm_shapes, scoped
from nystrom_np.outputs import (
    MaskedLMOutput,
    ModelOutput,
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
    output: ClassVar[type[ModelOutput]]
    head: ClassVar[Any]
    """The definition of the logits."""
    reads_first_token = False
    """Whether it answers for a sequence, by its first token, and not for each token."""

    @classmethod
    def parameter_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the parameters."""
        return scoped("nystromformer.", body_shapes(config)) | cls.head_shapes(config)

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        raise NotImplementedError

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
    ) -> Any:
        """Compute the logits and, with labels, the loss: the head's record, or a tuple.

        Inputs are those of :class:`NystromformerModel`, for multiple choice with an axis for the choices, (B, C, L).

        Parameters
        ----------
        labels : array, optional
            What the head should have answered: see the class.
        """
        checks = self.checks()
        given = (input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds)
        inputs = check_inputs(checks, self.config, *self._folded(checks, *given))
        config, layout = self.asked(output_attentions, output_hidden_states), inputs.layout
        states, attentions = encode(self._tree["nystromformer"], config, *inputs.arguments)
        logits = self._logits(checks, layout, states[-1])
        loss = None if labels is None else self._loss(checks, layout, logits, labels)
        hidden, weights = collect(config, layout, states, attentions)
        return self.respond(checks, self._record(loss, logits, hidden, weights), return_dict)

    forward = __call__

    def _folded(self, checks: Checks, *given: Any) -> tuple[Any, ...]:
        """Return the encoder's arguments as a batch of sequences."""
        return given

    def _logits(self, checks: Checks, layout: Padded, x: Array) -> Array:
        """Logits of the last state: of each token, or of each sequence."""
        if self.reads_first_token:
            return self.head(self._tree, self.config, layout.first(x))
        return layout.unpack(self.head(self._tree, self.config, x))

    def _loss(self, checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
        raise NotImplementedError

    def _record(self, loss: Array, logits: Array, hidden: Any, attentions: Any) -> ModelOutput:
        return self.output(loss, logits, hidden, attentions)  # type: ignore[call-arg]

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
        ``cls.predictions``.

    Notes
    -----
    As in transformers 4.37.2, it returns a :class:`.MaskedLMOutput` with ``logits`` (B, L, V). ``labels`` are the true
    tokens, integers (B, L), −100 where the loss, the mean cross-entropy, is to ignore the position.

    Examples
    --------
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
    >>> model = NystromformerForMaskedLM(config)
    >>> out = model([[7, 3, 9]], labels=[[-100, 3, -100]])
    >>> out.logits.shape, out.loss.shape
    ((1, 3, 30000), ())
    """

    head = staticmethod(definition.masked_lm)
    output = MaskedLMOutput
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

    def _loss(self, checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
        return _token_loss(checks, layout, logits, labels)


class NystromformerForSequenceClassification(_HeadedModel):
    """Nyströmformer with a head that classifies, or measures, a whole sequence by its first token.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``classifier``.

    Notes
    -----
    As in transformers 4.37.2, it returns a :class:`.SequenceClassifierOutput` with ``logits`` (B, num_labels).
    ``labels`` are integers (B,) or (B, 1) for one label to a sequence, −100 to ignore it (cross-entropy); floats (B,
    num_labels) of 0 and 1 for several (binary cross-entropy); floats for regression (squared error). Which of the three
    is ``config.problem_type``; where this is None, one label means regression, int64 and int32 labels a single label,
    any others several.

    Examples
    --------
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_labels=3)
    >>> model = NystromformerForSequenceClassification(config)
    >>> out = model([[7, 3, 9]], labels=[2])
    >>> out.logits.shape, out.loss.shape
    ((1, 3), ())
    """

    head = staticmethod(definition.sequence_classification)
    output = SequenceClassifierOutput
    reads_first_token = True

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        width = config.hidden_size
        dense = dense_shapes("classifier.dense", width, width)
        return dense | dense_shapes("classifier.out_proj", width, config.num_labels)

    def _loss(self, checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
        batch, classes = logits.shape
        labels = checks.array("labels", labels, "biuf")
        problem = self.config.problem_type or _problem_type(classes, labels)
        if problem == "single_label_classification":
            check_shape("labels", labels, (batch,), (batch, 1), words="(batch,) or (batch, 1)")
            labels = checks.labels("labels", checks.array("labels", labels, "iu"), classes)
            return sequence_loss(logits, labels, problem)
        targets = move_like(labels, logits).astype(logits.dtype)
        if problem == "multi_label_classification":
            check_shape("labels", targets, (batch, classes), words="(batch, num_labels)")
        elif classes == 1:
            check_shape("labels", targets, (batch,), (batch, 1), words="(batch,) or (batch, 1)")
        else:  # the reference's broadcast: labels of one axis stand for a row of labels, not for a column of sequences
            allowed = [(batch, classes), (1, classes), (batch, 1), (1, 1), (classes,), (1,)]
            check_shape("labels", targets, *allowed, words="broadcastable to (batch, num_labels)")
        return sequence_loss(logits, targets, problem)


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
        ``pre_classifier`` and ``classifier``.

    Notes
    -----
    The inputs are (B, C, L), ``inputs_embeds`` (B, C, L, D); the choices are folded into the batch, so that hidden
    states and attentions have B · C rows. As in transformers 4.37.2, it returns a :class:`.MultipleChoiceModelOutput`
    with ``logits`` (B, C). ``labels`` are the right choices, integers (B,), −100 to ignore one; or floats (B, C), a
    distribution over them. The loss is the mean cross-entropy.

    Examples
    --------
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
    >>> model = NystromformerForMultipleChoice(config)
    >>> out = model([[[7, 3, 9], [7, 3, 4]]], labels=[1])
    >>> out.logits.shape, out.loss.shape
    ((1, 2), ())
    """

    head = staticmethod(definition.multiple_choice)
    output = MultipleChoiceModelOutput
    reads_first_token = True
    choices = True

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        width = config.hidden_size
        return dense_shapes("pre_classifier", width, width) | dense_shapes("classifier", width, 1)

    def _folded(self, checks: Checks, *given: Any) -> tuple[Any, ...]:
        """Return the encoder's arguments with their choices folded into the batch."""
        arguments = dict(zip(_AXES, given, strict=True))
        name = "input_ids" if arguments["input_ids"] is not None else "inputs_embeds"
        if arguments[name] is None:
            return given  # which check_inputs refuses
        words = checks.array(name, arguments[name], "biuf")
        if words.ndim != _AXES[name]:
            expected = "(batch, choices, length" + (", hidden_size)" if name == "inputs_embeds" else ")")
            raise ValueError(f"{name} must have shape {expected}; found {words.shape}")
        checks.choices = words.shape[1]
        for name, value in arguments.items():
            array = None if value is None or name == "head_mask" else checks.array(name, value, "biuf")
            if array is not None and array.ndim == _AXES[name]:
                check_shape(name, array, words.shape[:2] + array.shape[2:], words="(batch, choices, ...)")
                arguments[name] = array.reshape(-1, *array.shape[2:])
        return tuple(arguments.values())

    def _logits(self, checks: Checks, layout: Padded, x: Array) -> Array:
        return super()._logits(checks, layout, x).reshape(-1, checks.choices)

    def _loss(self, checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
        labels = checks.array("labels", labels, "iuf")
        if labels.dtype.kind == "f":
            check_shape("labels", labels, logits.shape, words="(batch, choices) for a distribution")
            return cross_entropy(logits, move_like(labels, logits).astype(logits.dtype))
        check_shape("labels", labels, logits.shape[:1], words="(batch,)")
        return cross_entropy(logits, checks.labels("labels", labels, logits.shape[1]))


_AXES = dict(input_ids=3, attention_mask=3, token_type_ids=3, position_ids=3, head_mask=None, inputs_embeds=4)  # noqa: C408
"""The encoder's arguments in their order, and how many axes one has that is folded."""


class NystromformerForTokenClassification(_HeadedModel):
    """Nyströmformer with a head that labels every token.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``classifier``.

    Notes
    -----
    As in transformers 4.37.2, it returns a :class:`.TokenClassifierOutput` with ``logits`` (B, L, num_labels).
    ``labels`` are integers (B, L), −100 where the loss, the mean cross-entropy, is to ignore the position.

    Examples
    --------
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, num_labels=4)
    >>> model = NystromformerForTokenClassification(config)
    >>> out = model([[7, 3, 9]], labels=[[0, 3, -100]])
    >>> out.logits.shape, out.loss.shape
    ((1, 3, 4), ())
    """

    head = staticmethod(definition.token_classification)
    output = TokenClassifierOutput
    per_token = ("logits", "hidden_states")

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        return dense_shapes("classifier", config.hidden_size, config.num_labels)

    def _loss(self, checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
        return _token_loss(checks, layout, logits, labels)


class NystromformerForQuestionAnswering(_HeadedModel):
    """Nyströmformer with a head that finds where in a text the answer begins and ends.

    Parameters
    ----------
    config, seed, parameters, dtype
        As in :class:`NystromformerModel`; the encoder's names begin with ``nystromformer.``, the head's with
        ``qa_outputs.``. The head has two outputs, whatever ``num_labels`` says.

    Examples
    --------
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
    >>> model = NystromformerForQuestionAnswering(config)
    >>> out = model([[7, 3, 9]], start_positions=[1], end_positions=[2])
    >>> out.start_logits.shape, out.end_logits.shape, out.loss.shape
    ((1, 3), (1, 3), ())
    """

    head = staticmethod(definition.question_answering)
    output = QuestionAnsweringModelOutput
    per_token = ("start_logits", "end_logits", "hidden_states")

    @classmethod
    def head_shapes(cls, config: NystromformerConfig) -> Shapes:
        """Return the names and shapes of the head's parameters."""
        return dense_shapes("qa_outputs", config.hidden_size, 2)

    def __call__(  # type: ignore[override]
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
        """Score every token as the first and as the last of the answer, ``start_logits`` and ``end_logits`` (B, L).

        All else is as in the other heads. The loss is the mean of two cross-entropies, if both positions are there.

        Parameters
        ----------
        start_positions, end_positions : arrays of integers, (B,) or (B, 1), optional
            Where the answer begins and ends. Clamped to 0 … L; L itself is ignored by the loss, as an answer that
            was cut off. (So −100 counts as position 0.)
        """
        one_is_missing = start_positions is None or end_positions is None
        return super().__call__(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            head_mask,
            inputs_embeds,
            None if one_is_missing else (start_positions, end_positions),
            output_attentions,
            output_hidden_states,
            return_dict,
        )

    forward = __call__  # type: ignore[assignment]

    def _loss(self, checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
        xp, not_padding = get_array_module(logits), layout.not_padding
        starts, ends = (
            _positions(checks, layout, logits, name, positions)
            for name, positions in zip(("start_positions", "end_positions"), labels, strict=True)
        )
        if not_padding is not None:  # what was set aside has no share
            logits = xp.where(move_like(not_padding, logits)[..., None], logits, xp.finfo(logits.dtype).min)
        return answer_loss(logits, starts, ends)

    def _record(self, loss: Array, logits: Array, hidden: Any, attentions: Any) -> ModelOutput:
        return QuestionAnsweringModelOutput(loss, logits[..., 0], logits[..., 1], hidden, attentions)


def _token_loss(checks: Checks, layout: Padded, logits: Array, labels: Any) -> Array:
    """Cross-entropy over all tokens (B, L, classes); set-aside padding is ignored."""
    batch, length, classes = logits.shape
    labels = check_shape("labels", checks.array("labels", labels, "iu"), (batch, length), words="(batch, length)")
    return token_loss(
        logits, checks.labels("labels", blank_padding(labels, layout.not_padding, IGNORED), classes, IGNORED)
    )


def _positions(checks: Checks, layout: Padded, logits: Array, name: str, positions: Any) -> Array:
    """Positions (B,) of answers; one at set-aside padding is none of the sequence and becomes L, which is ignored."""
    xp, (batch, length, _) = get_array_module(logits), logits.shape
    positions = move_like(checks.array(name, positions, "iu"), logits)
    check_shape(name, positions, (batch,), (batch, 1), words="(batch,) or (batch, 1)")
    positions = positions.reshape(batch).astype("int64")
    if layout.not_padding is None:
        return positions
    inside = move_like(np.pad(layout.not_padding, [(0, 0), (0, 1)]), positions)
    return xp.where(inside[xp.arange(batch), xp.clip(positions, 0, length)], positions, length)
