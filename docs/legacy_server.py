"""A model in an environment of its own, behind the one request that vamba-eval sends: python legacy_server.py PORT

Copy this file into the model's environment (any Python 3.8 or later with Pillow), and let `load` and `answer` do what
the model's own demo does. It answers one question at a time, so ask with concurrency=1.
"""

import base64
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from PIL import Image


def load():
    return None  # such as load_pretrained_model(...) of LongVA, LongVU or Video-XL


def answer(model, frames, question, max_new_tokens):
    """The model's answer, greedily: `frames` are PIL images in order, `question` is the whole prompt."""
    width, height = frames[0].size if frames else (0, 0)
    return f"{len(frames)} frames of {width}x{height}, and: {question}"[:max_new_tokens]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = request["messages"][-1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        frames = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB") for url in urls]
        question = "\n".join(part["text"] for part in parts if part["type"] == "text")
        try:
            text = answer(model, frames, question, request["max_tokens"])
            status, reply = 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        except Exception as error:  # such as too little memory: this question fails, with this reason
            status, reply = 400, {"error": {"message": f"{type(error).__name__}: {error}"}}
        body = json.dumps({"model": request["model"], **reply}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


model = load()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
