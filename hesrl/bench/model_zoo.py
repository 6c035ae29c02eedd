"""Twenty small architectures with losses, for `hesrl.bench.models`; of torch.nn alone.

Each is one of the kinds that are trained in practice, so small that an update takes from some
milliseconds to some tenths of a second on one thread.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from hesrl.bench.model_parts import (
    Decoder,
    DenseBlock,
    Depthwise,
    Graph,
    Language,
    Mixer,
    Next,
    Residual,
    Unet,
    Unrolled,
    Vit,
)
from hesrl.measuring.networks import dense_network
from hesrl.measuring.updates import Loss

Model = tuple[nn.Module, Loss]


def _classifier(net: nn.Module, x: Tensor, classes: int = 10) -> Model:
    target = torch.randint(classes, (x.shape[0],))
    return net, lambda: F.cross_entropy(net(x), target)


def _images(count: int, size: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, size, size)


def mlp() -> Model:
    """Digits by an MLP with ReLU."""
    return _classifier(dense_network([784, 512, 512, 10], nn.ReLU), torch.randn(128, 784))


def vgg() -> Model:
    """VGG: convolutions of 3 × 3, ReLU, max pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = nn.Flatten(), nn.Linear(128 * 16, 256), nn.ReLU(), nn.Linear(256, 10)
    return _classifier(nn.Sequential(*layers, *head), _images(16))


def resnet() -> Model:
    """ResNet for CIFAR: batch norm and residual connections."""
    stem = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
    widths = [(16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    blocks = [Residual(*width) for width in widths]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return _classifier(nn.Sequential(*stem, *blocks, *head), _images(16))


def mobilenet() -> Model:
    """Depthwise separable convolutions with ReLU6 and squeeze-and-excitation."""
    stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()
    blocks = [Depthwise(16, 24, 1), Depthwise(24, 40, 2), Depthwise(40, 80, 1)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(80, 10)
    return _classifier(nn.Sequential(*stem, *blocks, *head), _images(16))


def densenet() -> Model:
    """Dense blocks: every layer takes what all before it made, with group norm."""
    stem = nn.Conv2d(3, 16, 3, padding=1)
    blocks = DenseBlock(16, 12, 4), nn.AvgPool2d(2), DenseBlock(64, 12, 4)
    head = nn.GroupNorm(8, 112), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return _classifier(nn.Sequential(stem, *blocks, *head, nn.Linear(112, 10)), _images(8))


def convnext() -> Model:
    """ConvNeXt: depthwise 7 × 7, layer norm over channels, GELU, layer scale."""
    stem = nn.Conv2d(3, 48, 4, 4)
    blocks = [Next(48) for _ in range(4)]
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(48), nn.Linear(48, 10)
    return _classifier(nn.Sequential(stem, *blocks, *head), _images(16, 64))


def unet() -> Model:
    """Denoising by a U-Net with group norm and SiLU."""
    net, x = Unet(16), _images(4)
    noise = torch.randn_like(x)
    return net, lambda: F.mse_loss(net(x + noise), noise)


def transformer_encoder() -> Model:
    """Sequences classified by the encoder of torch.nn."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, "gelu", batch_first=True)
    net = nn.Sequential(
        nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), nn.Linear(128, 10)
    )
    x, target = torch.randn(8, 64, 128), torch.randint(10, (8,))
    return net, lambda: F.cross_entropy(net(x).mean(1), target)


def transformer_decoder() -> Model:
    """Translation: a decoder with attention to a memory."""
    net = Decoder(200, 128, 2)
    memory, tokens = torch.randn(8, 32, 128), torch.randint(200, (8, 33))
    return net, lambda: F.cross_entropy(
        net(tokens[:, :-1], memory).flatten(0, 1), tokens[:, 1:].flatten()
    )


def vit() -> Model:
    """Vision transformer: patches, a class token, learned positions."""
    return _classifier(Vit(128, 4, 4), _images(8))


def gpt() -> Model:
    """Next token by causal attention, with tied embeddings."""
    net, tokens = Language(256, 128, 4, 3), torch.randint(256, (8, 65))
    return net, lambda: F.cross_entropy(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def lstm() -> Model:
    """An LSTM cell over 24 steps."""
    return _classifier(Unrolled(nn.LSTMCell(64, 128), 128), torch.randn(16, 24, 64))


def gru() -> Model:
    """`nn.GRU` over 24 steps."""
    layers, head = nn.GRU(64, 128, batch_first=True), nn.Linear(128, 10)
    x, target = torch.randn(16, 24, 64), torch.randint(10, (16,))
    net = nn.ModuleList([layers, head])
    return net, lambda: F.cross_entropy(head(layers(x)[0][:, -1]), target)


def mixer() -> Model:
    """MLP-Mixer: MLPs over patches and over channels."""
    return _classifier(Mixer(128, 64, 3), _images(8))


def autoencoder() -> Model:
    """Images through a bottleneck: convolutions with stride, and transposed ones."""
    down = nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU()
    up = nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(32, 3, 4, 2, 1)
    net, x = nn.Sequential(*down, *up, nn.Sigmoid()), _images(16).sigmoid()
    return net, lambda: F.binary_cross_entropy(net(x), x)


def vae() -> Model:
    """A variational autoencoder of digits."""
    encoder, decoder = (
        dense_network([784, 400, 40], nn.ReLU),
        dense_network([20, 400, 784], nn.ReLU),
    )
    x, noise = torch.rand(128, 784), torch.randn(128, 20)

    def loss() -> Tensor:
        mean, log_var = encoder(x).chunk(2, 1)
        z = mean + noise * (0.5 * log_var).exp()
        divergence = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)
        return F.binary_cross_entropy_with_logits(decoder(z), x) + divergence.mean() / 784

    return nn.ModuleList([encoder, decoder]), loss


def ppo() -> Model:
    """PPO's loss as CleanRL writes it, actor and critic of two layers of 256."""
    actor, critic = (dense_network([64, 256, 256, n], nn.Tanh) for n in (8, 1))
    log_std = nn.Parameter(torch.zeros(1, 8))
    net = nn.ModuleList([actor, critic, nn.ParameterList([log_std])])
    obs, actions = torch.randn(256, 64), torch.randn(256, 8)
    old_logprobs, advantages, returns = -10 + torch.randn(256), torch.randn(256), torch.randn(256)

    def loss() -> Tensor:
        mean = actor(obs)
        policy = Normal(mean, log_std.expand_as(mean).exp(), validate_args=False)
        ratio = (policy.log_prob(actions).sum(1) - old_logprobs).exp()
        pg_loss = torch.max(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.2)).mean()
        v_loss = 0.5 * ((critic(obs).view(-1) - returns) ** 2).mean()
        return pg_loss - 0.01 * policy.entropy().sum(1).mean() + 0.5 * v_loss

    return net, loss


def dqn() -> Model:
    """Q-learning from frames: the convolutions of Mnih et al. (2015), a Huber loss."""
    convolutions = nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU()
    last = nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU()
    net, frames = nn.Sequential(*convolutions, *last, nn.Linear(512, 6)), torch.rand(16, 4, 84, 84)
    actions, target = torch.randint(6, (16, 1)), torch.randn(16)
    return net, lambda: F.smooth_l1_loss(net(frames).gather(1, actions).squeeze(1), target)


def graph_network() -> Model:
    """Messages along the edges of a graph, added up with ``index_add``."""
    net, nodes = Graph(64, 3), torch.randn(500, 64)
    sources, targets, classes = (torch.randint(500, (n,)) for n in (2000, 2000, 500))
    return net, lambda: F.cross_entropy(net(nodes, sources, targets), classes % 7)


def text() -> Model:
    """Texts classified by bags of embeddings beside a convolution over words."""
    bag, words = nn.EmbeddingBag(2000, 64, mode="mean"), nn.Embedding(2000, 64)
    conv, head = nn.Conv1d(64, 128, 3, padding=1), nn.Linear(64 + 128, 10)
    tokens, target = torch.randint(2000, (32, 40)), torch.randint(10, (32,))

    def loss() -> Tensor:
        features = conv(words(tokens).mT).relu().amax(2)
        return F.cross_entropy(head(torch.cat([bag(tokens), features], 1)), target)

    return nn.ModuleList([bag, words, conv, head]), loss


MODELS: dict[str, Callable[[], Model]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        mlp, vgg, resnet, mobilenet, densenet, convnext, unet, transformer_encoder,
        transformer_decoder, vit, gpt, lstm, gru, mixer, autoencoder, vae, ppo, dqn, graph_network,
        text,
    )
}  # fmt: skip
"""What makes each of them, with random weights and data."""
