"""Ops of another package in scripted Python: `pip install examples/plugins`, then run this."""

import numpy as np

import stepwell


@stepwell.script
def step(weight: stepwell.Tensor, gradient: stepwell.Tensor, rate: float) -> stepwell.Tensor:
    clipped = stepwell.ops.mylib.clip_norm(gradient, 1.0)
    return stepwell.ops.mylib.soft_sign(weight - rate * clipped)


weight, gradient = np.ones((2, 3), np.float32), np.full((2, 3), 4, np.float32)
updated = weight - 0.5 / np.sqrt(np.float32(6))
np.testing.assert_allclose(step(weight, gradient, 0.5), updated / (1 + updated), rtol=1e-5)
print(step(weight, gradient, 0.5))
print(step.stage("raw"))
print(step.stage("linalg"))
