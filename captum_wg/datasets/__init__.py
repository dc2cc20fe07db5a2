"""Attributions of whole data sets, streamed to disk and read back."""

from captum_wg.datasets.attribute import attribute_dataset
from captum_wg.datasets.shards import AttributionDataset

__all__ = ["AttributionDataset", "attribute_dataset"]
