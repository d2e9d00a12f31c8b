"""Features of people in a world as networks for few recordings read them: about the own pelvis, and of joints alone."""

import torch
from torch import Tensor

from data_loaders.interhuman_features import about_pelvis, features_of_joints, in_world, of_all
from model.model import Model


class ReadsPeople(Model):
    """What it reads and makes of a person are C columns: all D of the features, or with `joints_only` the places of the joints,
    from which the others follow (`completed`). With `about_pelvis` they are told from the own pelvis, as are its mean and std.
    """

    @property
    def columns(self) -> slice:
        """Of a person's features, those that it makes."""
        return slice(self.config.num_columns)

    def normalise(self, features: Tensor) -> Tensor:
        """(..., P * C) in units of the model's own mean and std, of features (..., P * D), or of P * C columns of them."""
        rows = self._each(features)[..., self.columns]
        if self.config.about_pelvis:
            rows = about_pelvis(rows, self.features)
        if self.mean is not None:
            mean, std = (self._each(each.to(rows.device))[..., self.columns] for each in (self.mean, self.std))
            rows = (rows - mean) / std
        return rows.flatten(-2)

    def denormalise(self, motion: Tensor) -> Tensor:
        """The inverse of `normalise`, (..., P * C) in their units."""
        rows = motion.unflatten(-1, (-1, self.columns.stop))
        if self.mean is not None:
            mean, std = (self._each(each.to(rows.device))[..., self.columns] for each in (self.mean, self.std))
            rows = rows * std + mean
        return (in_world(rows, self.features) if self.config.about_pelvis else rows).flatten(-2)

    def kept_columns(self, keep: Tensor) -> Tensor:
        """(T, P * C) or (T, 1) of what stays (T, P * D) or (T, 1) of a motion."""
        return keep if keep.shape[-1] == 1 else self._each(keep)[..., self.columns].flatten(-2)

    def completed(self, made: Tensor) -> Tensor:
        """Features (T, P * D) of a motion (T, P * C)."""
        if not self.config.joints_only or made.shape[-1] % self.features.width == 0:
            return made
        joints = made.unflatten(-1, (-1, self.columns.stop // 3, 3)).transpose(0, 1)  # (P, T, J, 3)
        following = 2 * joints[:, -1:] - joints[:, -2:-1] if len(made) > 1 else joints  # goes on as the last two frames did
        return of_all(features_of_joints(torch.cat([joints, following], dim=1), self.features.body))

    def _each(self, rows: Tensor) -> Tensor:
        """(..., P, D or C) of rows (..., P * D or P * C)."""
        width = self.features.width
        return rows.unflatten(-1, (-1, width if rows.shape[-1] % width == 0 else self.columns.stop))
