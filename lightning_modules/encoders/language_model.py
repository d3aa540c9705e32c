"""Language models of Hugging Face's transformers: they go on with texts, and encode them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.cache import Cache, default_cache, file_stamp
from datamodules.features import Features
from lightning_modules.encoders.pretrained_files import hub_or_cache, local_copy
from lightning_modules.encoders.transformers_models import (
    architecture_of,
    harmless,
    load_model,
    local_options,
    save_model,
)
from lightning_modules.encoders.transformers_text import (
    KEY,
    TransformersText,
    save_tokenizer,
    tokenizer_of,
)
from lightning_modules.routing import Routing, RowAssignment, Shares
from pollinate.errors import PollinateError, UsageError
from pollinate.requirements import require

GoesOn = Callable[[Tensor, int], Tensor]  # c answers (n c, A) of each prompt -> logits (n c, A, V)
GGUF = ".gguf"
MOST_TOKENS = 16_384  # whose vectors are held at a time while answering: 0.8 GB of SmolLM2's
NO_TOKEN = -1  # in answers: beyond the last token
USER = "\ue000user\ue001"  # private characters, which stand for what a row says
SYSTEM = "\ue000system\ue001"


@dataclass(frozen=True)
class AnsweredPrompts:
    """Rows of one task, prompt and answer.

    task: its name.
    prompts: (n, P) token ids as ``Batch.prompts``, padded with 0.
    answers: (n, A) the model's own ids, with the end, -1 beyond it.
    """

    task: str
    prompts: Tensor
    answers: Tensor


@dataclass
class AnsweredFeatures(Features):
    """Features of rows, and logits (n, A, V) of the answers that the same call predicted."""

    logits: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Decoding:
    """How an answer is written.

    max_tokens: most tokens of an answer, >= 1.
    beams: rows of tokens that are followed side by side, >= 1.
    temperature: of sampling, > 0; None: the most probable token each time.
    top_k, top_p: sample among the k most probable tokens, or those that have p of the probability;
        None: all.
    seed: of sampling.
    stop: texts at which an answer ends, and which aren't part of it.

    Raises:
        UsageError: a value is out of range.
    """

    max_tokens: int = 128
    beams: int = 1
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value in (("max_answer", self.max_tokens), ("beams", self.beams)):
            if value < 1:
                raise UsageError(f"{name} must be >= 1, got {value}")
        if self.temperature is not None and not self.temperature > 0:
            raise UsageError(f"temperature must be > 0, got {self.temperature}; null: no sampling")
        if self.temperature is None and (self.top_k is not None or self.top_p is not None):
            raise UsageError("top_k and top_p are for sampling; set temperature, 1.0 say, too")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k must be >= 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be in (0, 1], got {self.top_p}")
        if isinstance(self.stop, str) or not all(isinstance(o, str) and o for o in self.stop):
            raise UsageError(f"stop must be a list of texts, got {self.stop!r}")

    def options(self) -> dict[str, Any]:
        """Return them as ``generate`` of transformers takes them."""
        chosen: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "num_beams": self.beams,
            "do_sample": self.temperature is not None,
        }
        if self.temperature is not None:
            # 50 and 1.0 are transformers' defaults
            chosen |= {
                "temperature": self.temperature,
                "top_k": self.top_k or 0,
                "top_p": 1.0 if self.top_p is None else self.top_p,
            }
        return chosen


class LanguageModel(TransformersText):
    """A language model of transformers, a decoder or an encoder with a decoder, with its own head.

    For tasks with heads it is an encoder as ``TransformersText``: pooled = W f, of the last token
    of a decoder, or the mean over an encoder's. For tasks that answer in words it gives
    log p(answer | prompt) = sum_i log p(a_i | prompt, a_1 ... a_{i-1}), and writes answers. Rows of
    all tasks go through the network in one call. Padding changes nothing.

    Args:
        vocab_size, dim, weights, checkpointing, assets: as for ``TransformersText``.
        model: an id of the hub, a local folder, or a file of the format GGUF, whose weights are
            unpacked once.
        pooling: mean, cls (the first token) or last; None: last for a decoder, mean for an encoder.

    Raises:
        UsageError: transformers isn't installed, or the tokenizer has more tokens than the model.
        PollinateError: there is no such model, or it writes no texts.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.LanguageModel(260, dim=8, model="decoder_model", weights=False)
        >>> encoder(torch.tensor([[4, 7, 9, 0, 0], [4, 7, 9, 1, 2]])).pooled.shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        model: str,
        weights: bool = True,
        pooling: str | None = None,
        checkpointing: bool = False,
        assets: Mapping[str, Any] | None = None,
    ) -> None:
        known = assets or self.assets_of({"model": model})
        usual = "mean" if known["separate"] else "last"
        super().__init__(vocab_size, dim, model, weights, pooling or usual, checkpointing, known)
        self.separate: bool = known["separate"]  # whether prompt and answer are two sequences
        self.end: int = known["end"]

    @classmethod
    def build(cls, architecture: Mapping[str, Any], key: str, takes: str) -> Any:
        """Return the network with random weights, and with its head.

        Raises:
            PollinateError: there is no such language model.
        """
        require("transformers", "encoders")
        from transformers import AutoConfig

        config = AutoConfig.for_model(**harmless(architecture))
        try:
            found = auto_class(config).from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
        except (ValueError, TypeError) as error:
            raise PollinateError(not_a_writer(key, architecture.get("model_type"))) from error
        return found

    @classmethod
    def assets_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return architecture, tokenizer, the token that ends an answer, and the form of a chat.

        Raises:
            PollinateError: there is no such model, or it can't write.
            UsageError: transformers isn't installed.
        """
        model = unpacked(options["model"])
        architecture = architecture_of(model, KEY)
        with torch.device("meta"):
            network = cls.build(architecture, KEY, cls.takes)
        known = tokenizer_of(model, KEY, network)
        return {
            "architecture": architecture,
            **known,
            "separator": None,
            **writing_of(model, network),
        }

    def load(self) -> None:
        """Load the weights of the folder or of the hub; check that the network looks back only.

        Raises:
            PollinateError: they don't fit, or a token sees those that come after it.
        """
        if self.weights:
            load_model(self.network, unpacked(self.model), KEY, auto_class(self.network.config))
        if not self.separate and not looks_back_only(self.network):
            raise PollinateError(not_a_writer(KEY, self.network.config.model_type))

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the network, its tokenizer and its form of a chat."""
        save_model(self.network, folder, untied(self.network, weights), KEY)
        self.save_companions(folder, {})

    @property
    def peft_task(self) -> str:
        return "SEQ_2_SEQ_LM" if self.separate else "CAUSAL_LM"

    def save_companions(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Write the tokenizer, its form of a chat, and how answers are written."""
        from transformers import GenerationConfig

        save_tokenizer(folder, self.known, self.end, self.known.get("template"))
        known = {"eos_token_id": self.end, "pad_token_id": self.padding}
        if self.separate:
            known["decoder_start_token_id"] = self._start
        GenerationConfig(**known, **options).save_pretrained(folder)

    def forward(
        self,
        inputs: Tensor | None,
        prompts: Sequence[AnsweredPrompts] = (),
        shares: Shares = (),
    ) -> Features:
        """Encode rows and predict answers, as ``read``; the features are those of width D.

        Returns:
            Features, with ``logits`` where there are prompts.
        """
        features, logits = self.read(inputs, prompts, shares)
        found = self.finish(features)
        if not prompts:
            return found
        return AnsweredFeatures(found.pooled, found.sequence, found.grid, found.mask, logits)

    def backbone(self, inputs: Tensor) -> Features:
        """Encode (N, L) token ids: pooled (N, W), sequence (N, L, W) and mask (N, L)."""
        features, _ = self.read(inputs, ())
        return features

    def read(
        self, rows: Tensor | None, prompts: Sequence[AnsweredPrompts], shares: Shares = ()
    ) -> tuple[Features, list[Tensor]]:
        """Encode rows of tasks with heads, and predict answers of others, in one call.

        Args:
            rows: (N, L) token ids, or None.
            prompts: prompts and answers of tasks.
            shares: (task, rows) of ``rows``, for adapters per task; those of prompts follow.

        Returns:
            Features of ``rows``, in the network's width, and of each of ``prompts`` the logits
            (n, A, V) of its answers' tokens.
        """
        whole = [compose(one, self.shift) if not self.separate else one.prompts for one in prompts]
        parts = [*([] if rows is None else [rows]), *whole]
        ids = stack_tokens(parts)
        count = 0 if rows is None else len(rows)
        own = [*shares, *((one.task, len(one.prompts)) for one in prompts)]
        if not len(ids):
            ids = torch.ones((1, 1), dtype=torch.int64, device=self.device)  # no network takes none
        logits: list[Tensor] = []

        def run(inputs: Tensor) -> Features:
            found, hidden = (self._read_apart if self.separate else self._read_as_one)(
                inputs, count, prompts
            )
            logits.extend(found)
            mask = inputs != 0
            return Features(self.pooling(hidden, mask), hidden, mask=mask)

        features = run(ids) if self.routing is None else self.routing.call(run, ids, own)
        assert features.sequence is not None
        assert features.mask is not None
        return Features(
            features.pooled[:count], features.sequence[:count], mask=features.mask[:count]
        ), logits

    def _read_as_one(
        self, ids: Tensor, start: int, prompts: Sequence[AnsweredPrompts]
    ) -> tuple[list[Tensor], Tensor]:
        """Return answers' logits, and hidden vectors (N, L, W), of a decoder.

        Tokens see what is before them alone, so that padding at the end needs no mask.
        """
        model_ids = torch.where(ids != 0, ids - self.shift, self.padding)
        if not sum(len(one.prompts) for one in prompts):
            hidden = self.network.get_decoder()(input_ids=model_ids, use_cache=False)[0]
            return [hidden.new_zeros((0, one.answers.shape[1], 1)) for one in prompts], hidden
        widest = max(one.answers.shape[1] for one in prompts)
        places = torch.cat([answer_places(one, widest) for one in prompts])
        seen: list[Tensor] = []

        def select(hidden: Tensor) -> Tensor:
            seen.append(hidden)
            answers = hidden[start : start + len(places)]
            wanted = places[..., None].expand(-1, -1, answers.shape[-1])
            return answers.gather(1, wanted)

        with selected_hidden(self.network.get_decoder(), select):
            found = self.network(input_ids=model_ids, use_cache=False).logits
        return split_answers(found, prompts), seen[0]

    def _read_apart(
        self, ids: Tensor, start: int, prompts: Sequence[AnsweredPrompts]
    ) -> tuple[list[Tensor], Tensor]:
        """Return answers' logits, and hidden vectors (N, L, W) of the encoder, of both parts."""
        from transformers.modeling_outputs import BaseModelOutput

        mask = (ids != 0).long()
        model_ids = torch.where(ids != 0, ids - self.shift, self.padding)
        hidden = self.network.get_encoder()(input_ids=model_ids, attention_mask=mask)[0]
        own = slice(start, start + sum(len(one.prompts) for one in prompts))
        if own.start == own.stop:
            return [hidden.new_zeros((0, one.answers.shape[1], 1)) for one in prompts], hidden
        answers = stack_tokens([one.answers for one in prompts], NO_TOKEN)
        begun = functional.pad(answers[:, :-1], (1, 0), value=self._start)
        with self._assigned([(one.task, len(one.prompts)) for one in prompts], ids.device):
            found = self.network(
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden[own]),
                attention_mask=mask[own],
                decoder_input_ids=begun.where(begun >= 0, self.padding),
                use_cache=False,
            ).logits
        return split_answers(found, prompts), hidden

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        found: torch.device = next(self.network.parameters()).device
        return found

    @property
    def _start(self) -> int:
        """The id before an answer's first token, of a model with two parts."""
        config = self.network.config
        found = getattr(config, "decoder_start_token_id", None)
        return int(self.padding if found is None else found)

    @contextmanager
    def _assigned(self, shares: Shares, device: torch.device) -> Iterator[None]:
        """Let adapters per task know the rows of a call inside."""
        if not isinstance(self.routing, Routing):
            yield
            return
        before, self.routing.now = self.routing.now, RowAssignment.of(shares, device)
        try:
            yield
        finally:
            self.routing.now = before

    def write(self, task: str, prompts: Tensor, decoding: Decoding, tokenizer: Any) -> Tensor:
        """Write answers: (n, P) token ids, padded with 0 -> (n, T) the model's ids, -1 beyond.

        Args:
            task: whose adapters.
            prompts: n >= 0 rows.
            decoding: how.
            tokenizer: of transformers, where there are texts to stop at; else None.
        """
        if not len(prompts):
            return prompts.new_zeros((0, 0))
        options = decoding.options()
        if decoding.stop:
            options |= {"stop_strings": list(decoding.stop), "tokenizer": tokenizer}
        devices = [prompts.device] if prompts.is_cuda else []
        with torch.random.fork_rng(devices, enabled=decoding.temperature is not None):
            if decoding.temperature is not None:
                torch.manual_seed(decoding.seed)
            answers = self._generate(task, prompts, decoding.beams, options)
        ended = (answers == self.end).long().cumsum(dim=1) > 0
        written: Tensor = answers.where(~ended, NO_TOKEN)
        return written

    def sample(self, task: str, prompts: Tensor, draws: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw answers from p(answer | prompt): (n, P) -> (n, A) the model's ids, -1 beyond.

        Token i of a row is the first whose cumulative probability is above the row's number i, so
        that an answer depends on its prompt and its numbers alone. The end is part of it, unless
        there were as many tokens as numbers before. Nothing is dropped out.

        Args:
            task: whose adapters.
            prompts: n >= 0 rows, padded with 0.
            draws: (n, most tokens) float64, in [0, 1).
            temperature: divides the logits, > 0.
        """
        if not len(prompts):
            return prompts.new_zeros((0, 0))
        options = {"max_new_tokens": draws.shape[1], "num_beams": 1, "do_sample": False}
        choose = DrawnTokens(draws.to(prompts.device), temperature)
        with evaluating(self):
            answers = self._generate(task, prompts, 1, {**options, "logits_processor": [choose]})
        ends = (answers == self.end).long()
        drawn: Tensor = answers.where(ends.cumsum(dim=1) == ends, NO_TOKEN)
        return without_padding(drawn, NO_TOKEN)

    def _generate(
        self, task: str, prompts: Tensor, beams: int, options: Mapping[str, Any]
    ) -> Tensor:
        """Return what transformers writes: (n, T), anything beyond an end."""
        ids = prompts if self.separate else pad_left(prompts)
        with self._assigned([(task, len(ids) * beams)], ids.device):
            found: Tensor = self.network.generate(
                input_ids=torch.where(ids != 0, ids - self.shift, self.padding),
                attention_mask=(ids != 0).long(),
                pad_token_id=self.padding,
                eos_token_id=self.end,
                **options,
            )
        return found[:, 1 if self.separate else ids.shape[1] :]

    def score(self, task: str, prompts: Tensor, choices: Tensor) -> Tensor:
        """Return log p(choice | prompt): (n, P), (C, A) -> (n, C).

        The prompts are read once; each choice goes on from there, as many at a time as fit.

        Args:
            task: whose adapters.
            prompts: token ids, padded with 0.
            choices: the model's ids, with the end, -1 beyond it.
        """
        rows, count = len(prompts), len(choices)
        if not rows:
            return torch.zeros((0, count), device=prompts.device)
        read = self._read_apart_once if self.separate else self._read_once
        with self._assigned([(task, rows)], prompts.device):
            go_on = read(prompts)
        size = max(1, MOST_TOKENS // (rows * (prompts.shape[1] + choices.shape[1])))
        found = []
        for block in torch.split(choices.to(prompts.device), size):
            wanted = block.repeat(rows, 1)  # (n c, A)
            with self._assigned([(task, len(wanted))], prompts.device):
                logits = go_on(wanted, len(block))
            found.append(answer_log_likelihood(logits, wanted).view(rows, -1))
        return torch.cat(found, dim=1)

    def _read_apart_once(self, prompts: Tensor) -> GoesOn:
        from transformers.modeling_outputs import BaseModelOutput

        mask = (prompts != 0).long()
        ids = torch.where(prompts != 0, prompts - self.shift, self.padding)
        hidden = self.network.get_encoder()(input_ids=ids, attention_mask=mask)[0]

        def go_on(wanted: Tensor, count: int) -> Tensor:
            begun = functional.pad(wanted[:, :-1], (1, 0), value=self._start)
            states = hidden.repeat_interleave(count, dim=0)
            logits: Tensor = self.network(
                encoder_outputs=BaseModelOutput(last_hidden_state=states),
                attention_mask=mask.repeat_interleave(count, dim=0),
                decoder_input_ids=begun.where(begun >= 0, self.padding),
                use_cache=False,
            ).logits
            return logits

        return go_on

    def _read_once(self, prompts: Tensor) -> GoesOn:
        ids = pad_left(prompts)
        mask = (ids != 0).long()
        first = self.network(
            input_ids=torch.where(ids != 0, ids - self.shift, self.padding),
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        cache = cache_name(self.network)
        read: Any = getattr(first, cache)

        def go_on(wanted: Tensor, count: int) -> Tensor:
            start: Tensor = first.logits[:, -1:].repeat_interleave(count, dim=0)
            if wanted.shape[1] == 1:
                return start
            own = deepcopy(read)  # what goes on is added to it
            own.batch_repeat_interleave(count)
            begun = wanted[:, :-1]
            real = (begun >= 0).long()
            rest = self.network(
                input_ids=begun.where(begun >= 0, self.padding),
                attention_mask=torch.cat([mask.repeat_interleave(count, dim=0), real], dim=1),
                position_ids=mask.sum(dim=1).repeat_interleave(count)[:, None]
                + torch.arange(begun.shape[1], device=ids.device),
                use_cache=True,
                **{cache: own},
            ).logits
            return torch.cat([start, rest], dim=1)

        return go_on


class DrawnTokens:
    """Leaves of each row's logits that of the token that its number draws; one call a token.

    Args:
        draws: (n, most tokens), in [0, 1).
        temperature: divides the logits, > 0.
    """

    def __init__(self, draws: Tensor, temperature: float) -> None:
        self.draws = draws
        self.temperature = temperature
        self.place = 0

    def __call__(self, _: Tensor, logits: Tensor) -> Tensor:
        """Return (n, V) with -inf at all tokens but one a row."""
        summed = (logits.double() / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        number = self.draws[:, self.place, None].to(summed) * summed[:, -1:]
        self.place += 1
        chosen = torch.searchsorted(summed, number, right=True).clamp(max=logits.shape[1] - 1)
        return torch.full_like(logits, -torch.inf).scatter(1, chosen, 0.0)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Let a module and its parts be in evaluation mode inside."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def cache_name(network: Any) -> str:
    """Return what a network calls the keys and values of tokens that it has read."""
    return "cache" if "cache" in signature(network.forward).parameters else "past_key_values"


def answer_log_likelihood(logits: Tensor, answers: Tensor) -> Tensor:
    """Return sum_i log softmax(z_i)_{a_i} over an answer's tokens: (n, A, V), (n, A) -> (n,)."""
    losses = functional.cross_entropy(
        logits.float().mT, answers, reduction="none", ignore_index=NO_TOKEN
    )
    return -losses.sum(dim=1)


def compose(rows: AnsweredPrompts, shift: int) -> Tensor:
    """Return prompts followed by answers without their last token: (n, L), padded with 0."""
    follows = functional.pad(rows.answers[:, 1:], (0, 1), value=NO_TOKEN) >= 0
    answers = torch.where(follows, rows.answers + shift, 0)
    joined = torch.cat([rows.prompts, answers], dim=1)
    order = (joined == 0).to(torch.uint8).argsort(dim=1, stable=True)
    return without_padding(joined.gather(1, order), 0)


def without_padding(tokens: Tensor, padding: int) -> Tensor:
    """Return rows (n, L) without the columns at the end that are padding in all; one stays."""
    if tokens.numel() == 0:
        return tokens
    # counted from the end, so that where no number is known nearly all columns stay
    surplus = (tokens == padding).flip(1).cumprod(dim=1).sum(dim=1).min()
    return tokens[:, : max(tokens.shape[1] - int(surplus), 1)]


def answer_places(rows: AnsweredPrompts, widest: int) -> Tensor:
    """Return where the tokens are from which those of an answer follow: (n, widest)."""
    lengths = (rows.prompts != 0).sum(dim=1, keepdim=True)
    used = ((rows.answers >= 0).sum(dim=1, keepdim=True) - 1).clamp(min=0)
    steps = torch.arange(widest, device=lengths.device)
    return lengths - 1 + torch.minimum(steps.expand(len(lengths), -1), used)


def split_answers(logits: Tensor, prompts: Sequence[AnsweredPrompts]) -> list[Tensor]:
    """Return each task's logits: (sum n, A, V) -> (n, A_t, V)."""
    parts = torch.split(logits, [len(one.prompts) for one in prompts])
    return [part[:, : one.answers.shape[1]] for part, one in zip(parts, prompts, strict=True)]


def stack_tokens(parts: Sequence[Tensor], padding: int = 0) -> Tensor:
    """Put token ids (n_i, L_i) under each other, padded to the longest."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return torch.zeros((0, 1), dtype=torch.int64)
    longest = max(part.shape[1] for part in parts)
    padded = [functional.pad(p, (0, longest - p.shape[1]), value=padding) for p in parts]
    return torch.cat(padded)


def no_answers(prompts: Tensor) -> Tensor:
    """Return answers (n, 0) where none is known."""
    return prompts.new_zeros((len(prompts), 0))


def pad_left(ids: Tensor) -> Tensor:
    """Move padding, 0, before the tokens: (n, L) -> (n, L)."""
    order = (ids != 0).to(torch.uint8).argsort(dim=1, stable=True)
    return ids.gather(1, order)


@contextmanager
def selected_hidden(decoder: Any, select: Any) -> Iterator[None]:
    """Let a network's head see only what is chosen of its decoder's last vectors.

    So the head, with all that a model may do to its logits, is the model's own.

    Args:
        decoder: of a network of transformers.
        select: hidden (N, L, W) -> (n, A, W).
    """

    def replace(_: Any, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (select(output[0]), *output[1:])
        output.last_hidden_state = select(output.last_hidden_state)
        return output

    handle = decoder.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def auto_class(config: Any) -> Any:
    """Return transformers' class for language models with this configuration."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def not_a_writer(key: str, kind: Any) -> str:
    """Say that a model can't answer in words."""
    return (
        f"{key} must be a language model that writes, a decoder or an encoder with a decoder, but "
        f"one of {kind} only encodes; choose another, or encoder/text=transformers for tasks with "
        "labels"
    )


def looks_back_only(network: Any) -> bool:
    """Say whether what a network makes of a token depends on those before it alone."""
    ids = torch.tensor([[5, 6, 7], [5, 6, 8]]) % network.config.vocab_size
    training = network.training
    with torch.no_grad():
        first, second = network.eval()(input_ids=ids, use_cache=False).logits[:, :2]
    network.train(training)
    return bool(torch.allclose(first, second, atol=1e-4))


def untied(network: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without those that are another's: the head's, where it is the embedding."""
    seen: set[int] = set()
    again: set[str] = set()
    for name, value in network.state_dict(keep_vars=True).items():
        if id(value) in seen:
            again.add(name)
        seen.add(id(value))
    return {name: value for name, value in weights.items() if name not in again}


def writing_of(model: str, network: Any) -> dict[str, Any]:
    """Return what a model needs to answer in words.

    Args:
        model: an id of the hub, or a local folder.
        network: built, maybe without memory.

    Returns:
        end: the id that ends an answer; separate: whether prompt and answer are two sequences;
        chat: the texts round what a user says, {"plain": [before, after], "system": [before,
        between, after] or None}, or None; chat_problem: why the model's chat template can't be
        used, or None; template: it as it was written, or None.

    Raises:
        PollinateError: no token ends an answer.
    """
    from transformers import AutoTokenizer

    place = local_copy(model)
    with hub_or_cache(place is None):
        tokenizer = AutoTokenizer.from_pretrained(str(place or model), **local_options(place))
    end = tokenizer.eos_token_id
    if end is None:
        raise PollinateError(
            f"{KEY} must have a tokenizer with a token that ends a text, and that of {model} has "
            "none; set eos_token in its tokenizer_config.json"
        )
    chat, problem = chat_of(tokenizer)
    return {
        "end": int(end),
        "separate": bool(network.config.is_encoder_decoder),
        "chat": chat,
        "chat_problem": problem,
        "template": tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    }


def chat_of(tokenizer: Any) -> tuple[dict[str, Any] | None, str | None]:
    """Return the texts that a model's chat template puts round a conversation's parts.

    They are all that is kept for use: no template of a checkpoint is ever run.

    Returns:
        the texts, None where there are none; and why the template can't be used.
    """
    if tokenizer.chat_template is None:
        return None, None

    def said(*messages: tuple[str, str]) -> str:
        listed = [{"role": role, "content": text} for role, text in messages]
        found: str = tokenizer.apply_chat_template(
            listed, tokenize=False, add_generation_prompt=True
        )
        return found

    try:
        plain = said(("user", USER)).split(USER)
    except Exception as error:  # templates raise what they like  # noqa: BLE001
        reason = " ".join(str(error).split())
        return None, f"it refuses what a user says alone: {reason:.200}"
    if len(plain) != 2:
        return None, f"it says {len(plain) - 1} times what a user says"
    try:
        first, *rest = said(("system", SYSTEM), ("user", USER)).split(SYSTEM)
        between = rest[0].split(USER) if len(rest) == 1 else []
        system = [first, *between] if len(between) == 2 else None
    except Exception:  # noqa: BLE001  # as above: the role isn't known
        system = None
    return {"plain": plain, "system": system}, None


def unpacked(model: str) -> str:
    """Return a model, or the folder into which its file of the format GGUF was unpacked.

    Raises:
        PollinateError: the file can't be read.
    """
    place = local_copy(model)
    if place is None or place.suffix != GGUF:
        return model
    require("gguf", "gguf")
    folder = Cache(default_cache()).get(
        "language models", [file_stamp(place)], lambda into: unpack(place, into)
    )
    return str(folder)


def unpack(file: Path, folder: Path) -> None:
    """Write a GGUF file's model, in 32 bits, as transformers saves its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    known = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    try:
        network = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **known)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **known)
    except Exception as error:  # files fail in many ways
        reason = " ".join(str(error).split())
        raise PollinateError(f"{file} can't be read as a language model: {reason}") from error
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config  # all weights are numbers of 32 bits now
    save_model(network, folder, untied(network, network.state_dict()), KEY)
    tokenizer.save_pretrained(folder)
