"""What a user would write instead: FastAPI and onnxruntime. Features are not computed; zeros stand in for them."""

import sys

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
num_features = session.get_inputs()[1].shape[1]
app = FastAPI()


class InputData(BaseModel):
    ohlc_data: list[list[list[float]]]


class Request(BaseModel):
    model_version: str
    input_data: InputData


@app.get("/health")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request):
    prices = np.asarray(request.input_data.ohlc_data, dtype=np.float64)
    if not np.isfinite(prices).all() or (prices <= 0).any():
        raise ValueError("prices")
    reference = np.concatenate([prices[:, :1, :1], prices[:, :-1, 3:]], axis=1)
    bars = np.log(prices / reference).astype(np.float32)
    features = np.zeros((len(bars), num_features), dtype=np.float32)
    (probabilities,) = session.run(None, {"bars": bars, "features": features})
    return {"predictions": [{"probabilities": row.tolist()} for row in probabilities]}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
