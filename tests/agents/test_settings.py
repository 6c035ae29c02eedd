"""Settings of the agents: what is refused, and what an optimizer brings along."""

import dataclasses
import math

import pytest
import torch

from hesrl.agents import a2c, ppo, stream_ac
from hesrl.curvature import arm
from hesrl.errors import UserError
from hesrl.presets import preset
from hesrl.settings import defaults_for
from tests.agents.processes import IMAGES
from tests.agents.written_out import make_data

NAN = math.nan
each_agent = pytest.mark.parametrize("agent", [ppo, a2c], ids=["ppo", "a2c"])


@each_agent
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adamw"}, "--optimizer adamw: unknown; choose one of sgd, adam, ada"),
        ({"optimizer": "adaggnmc"}, "--optimizer adaggnmc: samples from a likelihood, which a "),
        ({"optimizer": "scaled-adaggnmc"}, "--optimizer scaled-adaggnmc: samples from a likeli"),
        ({"optimizer": "sgd", "eps": 0.1}, "--eps does not go with --optimizer sgd"),
        ({"optimizer": "scaled-sgd", "eps": 0.1}, "--eps does not go with --optimizer scaled-sgd"),
        ({"optimizer": "sgd", "betas": (0.5, 0.9)}, "--betas does not go with --optimizer sgd"),
        ({"optimizer": "adam", "delta": 0.1}, "--delta does not go with --optimizer adam"),
        ({"optimizer": "scaled-adam", "delta": -1.0}, "--delta -1.0: must be greater than zero"),
        ({"learning_rate": NAN}, "--learning-rate nan: must be greater than zero"),
        ({"max_grad_norm": 0.0}, "--max-grad-norm 0.0: must be greater than zero"),
        ({"eps": -1e-3}, "--eps -0.001: must be greater than zero"),
        ({"betas": (0.9, 1.0)}, r"--betas \(0.9, 1.0\): must be two numbers from 0 to below 1"),
        ({"betas": (NAN, 0.9)}, r"--betas \(nan, 0.9\): must be two numbers"),
        (
            {"activation": "gelu"},
            "--activation gelu: choose one of tanh, relu, elu, silu",
        ),
        ({"compile": "yes"}, "--compile yes: choose one of auto, on, off$"),
        ({"device": "gpu"}, "--device gpu: cannot be used: "),
        ({"hidden_sizes": (64, 0)}, r"--hidden-sizes \(64, 0\): must be greater than zero"),
        ({"eval_interval": -1}, "--eval-interval -1: must be greater than zero"),
        ({"env_threads": 0}, "--env-threads 0: must be greater than zero"),
        (
            {"env_threads": 9999},
            r"--env-threads 9999: this process may use \d+ core\(s\), and more",
        ),
        ({"output_curvature": "gauss"}, "--output-curvature gauss: choose one of exact, fisher"),
        (
            {"output_curvature": "fisher", "optimizer": "adahessian"},
            "--output-curvature fisher does not go with --optimizer adahessian",
        ),
        ({"seed": -1}, "--seed -1: must be from 0 to 4294967295"),
        ({"total_timesteps": 0}, "--total-timesteps 0: must be from 1 to 1000000000000$"),
        ({"total_timesteps": 10**12 + 1}, "--total-timesteps 1000000000001: must be from 1 to"),
        ({"ent_coef": -0.1}, "--ent-coef -0.1: must be at least 0"),
        ({"vf_coef": math.inf}, "--vf-coef inf: must be at least 0"),
        ({"gamma": 1.5}, "--gamma 1.5: must be from 0 to 1"),
        ({"gae_lambda": NAN}, "--gae-lambda nan: must be from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(agent, settings, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        agent.Args(**settings).check()
    assert "\n" not in str(error.value)


@each_agent
def test_a_run_that_is_resumed_may_have_more_threads_than_there_are_cores(agent, tmp_path):
    agent.Args(env_threads=9999, resume=tmp_path).check()


@each_agent
@pytest.mark.parametrize(
    "name",
    ["num_envs", "num_steps", "checkpoint_interval", "eval_episodes", "threads"],
)
def test_counts_are_above_zero(agent, name):
    option = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"^{option} 0: must be greater than zero"):
        agent.Args(**{name: 0}).check()


@each_agent
@pytest.mark.parametrize("name", ["sgd", "scaled-sgd"])
def test_a_presets_epsilon_is_left_out_where_there_is_none(agent, name):
    args = preset(agent.Args, "paper")
    args.optimizer = name
    args.check()
    args.fill_in()
    assert (args.eps, args.max_grad_norm) == (None, math.inf)
    args.eps = 0.1
    with pytest.raises(UserError, match=f"^--eps does not go with --optimizer {name}$"):
        args.check()


@each_agent
def test_each_optimizer_has_its_own_defaults(agent):
    adam, adahesscale = agent.Args(optimizer="adam"), agent.Args(optimizer="adahesscale")
    scaled = agent.Args(optimizer="scaled-adam")
    for args in (adam, adahesscale, scaled):
        args.check()
        args.fill_in()
    assert adam.learning_rate == {ppo: 3e-4, a2c: 1e-3}[agent]
    assert (adam.eps, adam.max_grad_norm) == (1e-5, 0.5)
    assert (adahesscale.learning_rate, adahesscale.eps) == (1e-3, 1e-3)
    assert adahesscale.max_grad_norm == scaled.max_grad_norm == math.inf
    assert (adam.delta, adahesscale.delta, scaled.delta) == (None, None, 1e-8)


@each_agent
def test_paper_is_a_preset_that_a_resumed_run_ignores(agent):
    own = {
        ppo: {"clip_vloss": False},
        a2c: {"progress": True, "update_at_episode_end": True, "orthogonal_init": False},
    }[agent]
    own |= {"variance_network": True, "vf_coef": 2.0, "bootstrap_at_time_limit": False}
    paper = preset(agent.Args, "paper")
    expected = agent.Args(paper=True, anneal_lr=False, eps=1e-5, max_grad_norm=math.inf, **own)
    assert dataclasses.asdict(paper) == dataclasses.asdict(expected)
    paper.check()
    assert defaults_for(agent.Args, ["--paper", "--num-steps", "3"]) == paper
    assert defaults_for(agent.Args, ["--paper", "--resume", "runs/x"]) is None
    assert defaults_for(agent.Args, []) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lamda": 1.5}, "--lamda 1.5: must be from 0 to 1$"),
        ({"lamda": NAN}, "--lamda nan: must be from 0 to 1$"),
        ({"lamda": 1.0, "gamma": 1.0}, "--gamma 1 and --lamda 1: a trace would never fade; "),
        ({"eta_policy": 0.0}, "--eta-policy 0.0: must be greater than zero$"),
        ({"eta_value": -0.5}, "--eta-value -0.5: must be greater than zero$"),
        ({"eta_value": NAN}, "--eta-value nan: must be greater than zero$"),
        ({"eta_policy": math.inf}, "--eta-policy inf: must be"),
        ({"optimizer": "obgd", "kappa_value": 0.0}, "--kappa-value 0.0: must be greater than"),
        ({"beta2": 1.0}, "--beta2 1.0: must be from 0 to below 1$"),
        ({"power": 1.1}, "--power 1.1: must be from 0 to 1$"),
        ({"damping": -1.0}, "--damping -1.0: must be at least 0$"),
        ({"sparse_init": 1.0}, "--sparse-init 1.0: must be from 0 to below 1$"),
        ({"normalization_clip": 0.0}, "--normalization-clip 0.0: must be greater than zero$"),
        ({"optimizer": "adam"}, "--optimizer adam: choose one of intentional, intentional-kl,"),
        ({"source": "hutchinson"}, "--source hutchinson: choose one of gradient, fisher$"),
        ({"optimizer": "obgd", "source": "fisher"}, "--source does not go with --optimizer obgd$"),
        ({"optimizer": "obgd", "eta_value": 0.1}, "--eta-value does not go with --optimizer obgd"),
        ({"kappa_policy": 2.0}, "--kappa-policy does not go with --optimizer intentional$"),
        ({"checkpoint_interval": 1500}, "--checkpoint-interval 1500: must be a multiple of"),
        ({"eval_interval": 1500}, "--eval-interval 1500: must be a multiple of --log-inte"),
        ({"device": "meta"}, "--device meta: stream-ac learns from one transition at a time, for "),
    ],
)  # fmt: skip
def test_impossible_settings_of_streaming_are_refused(settings, message):
    with pytest.raises(UserError, match=f"^{message}") as error:
        stream_ac.Args(**settings).check()
    assert "\n" not in str(error.value)


@each_agent
def test_networks_can_be_those_of_streaming(agent, monkeypatch):
    """``--layer-norm`` and ``--sparse-init`` of the agents that learn from rollouts."""

    class Made(Exception):
        pass

    def acting(networks):
        raise Made(networks)

    monkeypatch.setattr(agent, "Acting", acting)
    args = agent.Args(env_id="Hopper-v5", layer_norm=True, sparse_init=0.9, log_std_init=-0.5)
    with pytest.raises(Made) as made:
        agent.main(args)
    (networks,) = made.value.args
    assert (networks.actor_logstd == -0.5).all()
    for network in (networks.actor, networks.critic):
        assert sum(isinstance(layer, torch.nn.LayerNorm) for layer in network) == 2
        zeros = (network[0].weight == 0).sum(1)
        assert (zeros == 10).all()  # ⌈0.9 · 11⌉
    with pytest.raises(UserError, match=r"^--sparse-init 1: must be"):
        agent.Args(sparse_init=1).check()


@each_agent
def test_fishers_curvature_is_the_policys_own_and_leaves_the_gradient_alone(agent):
    """That of a log σ which all samples share is 2."""
    networks, data = make_data("gaussian", False)
    data = data if agent is ppo else data[:-1]
    gradients = []
    for curvature in ("exact", "fisher"):
        args = agent.Args(output_curvature=curvature)
        args.check()
        args.fill_in()
        networks.zero_grad()
        arm(networks.parameters())
        agent.make_loss(networks, args)(*data)[0].backward()
        gradients.append([p.grad.clone() for p in networks.parameters()])
    assert all(map(torch.equal, *gradients))
    hess = networks.actor_logstd.hess_diag
    torch.testing.assert_close(hess, torch.full_like(hess, 2.0))


@pytest.mark.parametrize("module", [ppo, a2c])
@pytest.mark.parametrize(
    ("env_id", "message"),
    [(IMAGES, "not the convolutions for images"), ("Hopper-v5", "not log σ: use --variance-netw")],
)
def test_kfac_refuses_in_one_line_what_it_does_not_take(tmp_path, module, env_id, message):
    with pytest.raises(UserError, match=f"^--optimizer kfac: takes linear layers, {message}"):
        module.main(module.Args(env_id=env_id, optimizer="kfac", runs_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []
