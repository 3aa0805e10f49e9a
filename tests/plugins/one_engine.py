from shapes import OldEngine

crypto_engines = [OldEngine]
