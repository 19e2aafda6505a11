"""verl's FSDP engine with our model and our grammar, for real, on one CPU."""

from functools import partial

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from verl.utils import tensordict_utils
from verl.workers.utils.losses import ppo_loss

import omni_r1
import plain_perpo
from omni_r1.errors import InputError
from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.grammar import GrammarError
from omni_r1.perpo.verl_plugins.engine import GrammarEngine
from prompts import ragged
from rescoring import masked
from verl_cpu import BUDGET, batch_of, nested

OPTIONS = SamplingOptions(mode="interleaved", max_new_tokens=BUDGET, do_sample=True)
NO_WARMUP = ("actor_rollout_ref.actor.optim.lr_warmup_steps=0", "actor_rollout_ref.actor.optim.lr=1e-3")


@pytest.fixture(scope="module")
def omni(path):
    return omni_r1.load(path)


@pytest.fixture(scope="module")
def done(omni):
    """Sampled completions of ragged prompts, whole images among them, some ended."""
    found = TransformersBackend(omni).generate(ragged(omni, 6, 0), OPTIONS, seeds=[6, 5, 3, 9, 10, 10])
    assert sum(omni.vocabulary.boi in one.ids[one.prompt_length :] for one in found) > 2
    assert {one.stop for one in found} == {"length", "end"}
    return found


def rows_of(done):
    return [(one.ids[: one.prompt_length], one.ids[one.prompt_length :]) for one in done]


def responses(values, done):
    """Of a nested (rows, T), what belongs to the tokens of each response."""
    return [row[one.prompt_length - 1 : -1] for row, one in zip(values.unbind(), done, strict=True)]


def infer(engine, data):
    with engine.eval_mode():
        return engine.infer_batch(data, loss_function=None)["model_output"]


def by_lengths(module, query, key, value, attention_mask, *, cu_seq_lens_q, scaling, **_):
    """What flash attention does with a pack, of which it is told the sequences' ends."""
    assert attention_mask is None
    ends = cu_seq_lens_q.tolist()
    parts = [
        scaled_dot_product_attention(*(each[:, :, a:b] for each in (query, key, value)), is_causal=True, scale=scaling)
        for a, b in zip(ends, ends[1:], strict=False)
    ]
    return torch.cat(parts, 2).transpose(1, 2), None


@pytest.mark.parametrize("layout", ["rows", "packed", "packed by lengths"])
def test_law3_logprobs_are_the_samplers(make_engine, done, layout):
    more = [f"actor_rollout_ref.model.use_remove_padding={layout != 'rows'}"]
    if layout == "packed by lengths":
        AttentionInterface.register("by_lengths", by_lengths)
        more.append("actor_rollout_ref.model.override_config.attn_implementation=by_lengths")
    engine, _ = make_engine(*more)
    assert isinstance(engine, GrammarEngine)
    found = infer(engine, batch_of(rows_of(done), packed=layout != "rows", micro=3))
    for got, one in zip(responses(found["log_probs"], done), done, strict=True):
        assert (got - torch.tensor(one.logprobs)).abs().max() <= 1e-5


def test_entropy_is_that_of_what_may_be_sampled(make_engine, omni, done):
    engine, _ = make_engine()
    found = infer(engine, batch_of(rows_of(done)))
    for got, one in zip(responses(found["entropy"], done), done, strict=True):
        spread = torch.distributions.Categorical(logits=masked(omni, one.ids, one.prompt_length, OPTIONS, omni.model))
        assert torch.allclose(got, spread.entropy(), atol=1e-5)


def test_a_response_that_breaks_the_grammar_is_an_error_that_names_its_row(make_engine, omni, done):
    engine, _ = make_engine()
    rows = rows_of(done)
    rows[2] = (rows[2][0], [omni.vocabulary.eoi] + rows[2][1])
    with pytest.raises(GrammarError, match="row 3 of the batch"):
        infer(engine, batch_of(rows))


def test_rows_that_only_fill_up_the_batch_may_say_anything(make_engine, omni, done):
    engine, _ = make_engine("actor_rollout_ref.model.override_config.grammar.mode=image-only")
    data = batch_of([([omni.vocabulary.eos] * 9, [omni.vocabulary.eos])])
    data["response_mask"] = nested([torch.zeros(1, dtype=torch.long)])
    assert infer(engine, data)["log_probs"].values().isfinite().all()


@pytest.mark.parametrize("field", ["actor.ulysses_sequence_parallel_size=2", "model.use_fused_kernels=true"])
def test_what_has_no_whole_logits_is_refused(make_engine, field):
    name, _, _ = field.rpartition("=")
    with pytest.raises(InputError, match=name.split(".")[1]):
        make_engine(f"actor_rollout_ref.{field}")


@pytest.fixture
def update(make_engine, omni, done):
    """One update of the actor; (engine, what it returned, log-probs, entropies and advantages it should have seen)."""
    engine, actor = make_engine(*NO_WARMUP)
    logits = [masked(omni, one.ids, one.prompt_length, OPTIONS, omni.model) for one in done]
    new = [
        each.log_softmax(-1).gather(1, torch.tensor(one.ids[one.prompt_length :])[:, None])[:, 0]
        for each, one in zip(logits, done, strict=True)
    ]
    draw = torch.Generator().manual_seed(1)
    old, reference = ([each + 0.3 * torch.randn(each.shape, generator=draw) for each in new] for _ in range(2))
    advantage = plain_perpo.advantages(torch.rand(len(done), generator=draw), 3)
    data = batch_of(rows_of(done), micro=2)
    data["old_log_probs"], data["ref_log_prob"] = nested(old), nested(reference)
    data["advantages"] = nested([value.expand(len(each)).clone() for value, each in zip(advantage, new, strict=True)])
    tensordict_utils.assign_non_tensor(data, global_batch_size=len(done))
    before = {name: value.detach().clone() for name, value in engine.module.state_dict().items()}
    with engine.train_mode():
        out = engine.train_batch(data, loss_function=partial(ppo_loss, config=actor))
    return engine, out, before, (old, reference, advantage)


def test_an_update_takes_the_papers_loss(update, omni, done):
    """Loss and gradient, of the whole mini-batch in three micro-batches, against the formula on a plain model."""
    engine, out, _, (old, reference, advantage) = update
    omni.model.zero_grad()
    new, entropy = [], []
    for one in done:
        with torch.enable_grad():
            logits = masked.__wrapped__(omni, one.ids, one.prompt_length, OPTIONS, omni.model)
        spread = logits.log_softmax(-1)
        new.append(spread.gather(1, torch.tensor(one.ids[one.prompt_length :])[:, None])[:, 0])
        entropy.append(-(spread.exp() * spread.masked_fill(spread.isinf(), 0)).sum(-1))
    wanted = plain_perpo.loss(new, old, reference, advantage, entropy)
    assert sum(out["loss"]) == pytest.approx(wanted.item(), abs=1e-6)
    wanted.backward()
    norm = torch.nn.utils.get_total_norm([each.grad for each in omni.model.parameters() if each.grad is not None])
    assert float(out["metrics"]["grad_norm"]) == pytest.approx(norm.item(), rel=1e-4)
    omni.model.zero_grad()


def test_an_update_moves_the_language_model_and_not_the_vq_module(update):
    engine, _, before, _ = update
    moved = {
        name
        for name, value in engine.module.state_dict().items()
        if not torch.equal(value.full_tensor(), before[name].full_tensor())
    }
    language = {name for name in before if not name.startswith("model.vqmodel.")}
    assert moved == language and len(before) > len(language)


def test_what_is_saved_loads_here(update, omni, path, tmp_path):
    engine, _, _, _ = update
    engine.save_checkpoint(str(tmp_path), global_step=1)
    saved = omni_r1.load(tmp_path / "huggingface")
    state = engine.module.state_dict()
    for name, value in saved.model.state_dict().items():
        assert torch.equal(value, state[name].full_tensor()), name
    assert saved.vocabulary.digest == omni.vocabulary.digest
    [completion] = saved.generate(["What is it?"], max_new_tokens=30)
    assert completion.error is None


def test_names_of_the_weights_are_those_vllm_is_given(make_engine):
    """The rollout's weights come from the trainer by name; our decoder in vLLM takes what begins so."""
    engine, _ = make_engine()
    names = [name for name, _ in engine.get_per_tensor_param()[0]]
    assert "lm_head.weight" in names and "model.layers.0.self_attn.q_norm.weight" in names
    assert all(name.startswith(("model.", "lm_head.")) for name in names)
