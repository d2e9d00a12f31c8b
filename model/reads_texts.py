"""Models that are told texts by a frozen encoder, which is opened when a text is first read."""

from collections.abc import Sequence

from model.model import Model
from model.text_encoders import EncodesTexts, TextFeatures
from model.text_towers import load_text_encoder


class ReadsTexts(Model):
    """`text_encoder` may replace the one that the configuration names."""

    text_encoder: EncodesTexts | None

    def reader(self) -> EncodesTexts:
        """What reads texts, where it is not replaced. FileError where it is not on this machine."""
        return load_text_encoder(self.config.text_encoder)

    def encode_text(self, texts: Sequence[str]) -> TextFeatures:
        """Features of the texts on the model's device."""
        if self.text_encoder is None:
            self.text_encoder = self.reader()
        return self.text_encoder.encode(list(texts)).to(self.device)


class ConditionedOnTexts(ReadsTexts):
    """Where the configuration's `condition` is text, of at most `text_max_tokens` tokens."""

    def reader(self) -> EncodesTexts:
        return load_text_encoder(self.config.text_encoder, max_tokens=self.config.text_max_tokens or None)

    def encode_text(self, texts: Sequence[str]) -> TextFeatures | None:
        """As of every model that reads texts; None for one that reads none."""
        return super().encode_text(texts) if self.config.condition == "text" else None
