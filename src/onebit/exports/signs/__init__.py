"""Networks of signs, which hardware without floating point computes: their common form, and the formats that are written from it."""
