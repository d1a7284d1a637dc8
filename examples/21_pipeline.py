"""In a pipeline of scikit-learn: priors compared by cross-validation, the best one exported.

Measurements of 178 wines are read by a VAE within a pipeline; the prior is chosen by the bound on
log p(x) of the rows that are held out. The best model is fitted to all rows, its codes are judged
by the wines' cultivars, which it has not seen, and it runs by onnxruntime alone.
"""

import numpy as np
import onnxruntime
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PowerTransformer

from priory.sklearn import GenerativeModel

x, cultivar = load_wine(return_X_y=True)
model = GenerativeModel(
    "vae", encoder="mlp:32", decoder="mlp:32", latent=3, steps=600, particles=50, random_state=0
)
pipeline = Pipeline([("shape", PowerTransformer()), ("vae", model)])
priors = ["normal", "mixture:3", "vamp:10"]
search = GridSearchCV(pipeline, {"vae__prior": priors}, cv=3).fit(x)
found = search.cv_results_
for prior, mean, sd in zip(priors, found["mean_test_score"], found["std_test_score"], strict=True):
    print(f"{prior:10} log p(x) {mean:.2f} ± {sd:.2f} nats over folds")

best = search.best_estimator_
codes = best.transform(x)
accuracy = cross_val_score(LogisticRegression(), codes, cultivar, cv=5).mean()
print(f"cultivars from {codes.shape[1]} numbers of {x.shape[1]}: {accuracy:.0%} right")

rows = best["shape"].transform(x)
made = best["vae"].run_.export("onnx/wine", rows)
print(made)
encoder = onnxruntime.InferenceSession(made.files["encoder"])
(means,) = encoder.run(["z_mean"], {"x": rows})
print(f"largest difference from the pipeline's codes: {np.abs(means - codes).max():.1e}")
sampler = onnxruntime.InferenceSession(made.files["sampler"])
draw = np.random.default_rng(0)
noise = {"eps": draw.standard_normal, "eps_uniform": draw.random}
inputs = {i.name: noise[i.name]((5, i.shape[1])).astype("float32") for i in sampler.get_inputs()}
(means,) = sampler.run(["x_mean"], inputs)
wines = best["shape"].inverse_transform(means)
print(f"five wines that are none, alcohol: {', '.join(f'{a:.1f}%' for a in wines[:, 0])}")
