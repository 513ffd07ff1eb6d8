//! From logits to a token: penalties, filters, seeds, constraints, logprobs.
