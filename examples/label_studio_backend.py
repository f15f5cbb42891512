"""A backend for Label Studio: python examples/label_studio_backend.py BUNDLE PORT [HOST]

Give its address to a project with the tags Video and VideoRectangle (Settings, Model), and switch on interactive
preannotations: rectangles that are drawn are followed to the end of the video.
"""

import sys
import tempfile

from label_studio_ml.api import init_app

from spm_rt.pipelines.toolkits.label_studio import make_model


def main(bundle: str, port: str, host: str = "127.0.0.1") -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = init_app(model_class=make_model(bundle), model_dir=folder)
        app.run(host=host, port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
