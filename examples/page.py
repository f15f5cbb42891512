"""The page within a server of one's own (WSGI): python examples/page.py BUNDLE FOLDER [PORT]

Here werkzeug's server; any other that runs threads in one process will do (the runs live in it).
"""

import sys
import tempfile
from pathlib import Path

from werkzeug.serving import make_server

from spm_rt.pipelines.page.app import Runs, make_app
from spm_rt.pipelines.page.lanes import Trackers
from spm_rt.pipelines.page.places import Places

bundle, folder, port = sys.argv[1], sys.argv[2], int((*sys.argv[3:], "0")[0])
with tempfile.TemporaryDirectory() as uploads:
    places = Places([folder], Path(uploads), most_upload=0)  # no uploads
    runs = Runs(Trackers([bundle], threads=1), room=1_000_000_000)
    server = make_server("127.0.0.1", port, make_app(places, runs), threaded=True)
    print(f"http://127.0.0.1:{server.port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        runs.close()
