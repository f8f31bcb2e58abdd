"""How good is it, why this answer, what is wrong: evaluation, comparison, audit, replay, explanation, doctor, pages."""
