"""A cluster of two workers on this machine, for test_clusters.py: ``python -m tests.clusters dask|dask_with_gpu|ray``.

Prints the address once it can be reached, and lasts until its standard input ends.
"""

import os
import signal
import socket
import subprocess
import sys
import time


def dask():
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        announce(cluster.scheduler_address.replace("tcp://", "dask://"))


def dask_with_gpu():
    """One of the two workers says that it has a GPU."""
    from dask.distributed import Nanny, Scheduler, SpecCluster

    options = [{"nthreads": 1, "resources": {"GPU": 1}}, {"nthreads": 1}]
    workers = {i: {"cls": Nanny, "options": own} for i, own in enumerate(options)}
    with SpecCluster(workers, {"cls": Scheduler, "options": {"dashboard": False}}) as cluster:
        announce(cluster.scheduler_address.replace("tcp://", "dask://"))


def ray():
    port, client_port = free_ports(2)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--port={port}", f"--ray-client-server-port={client_port}", "--num-cpus=2"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    head = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)
    try:
        while not answers(client_port):
            if head.poll() is not None:
                sys.exit("ray did not start")
            time.sleep(0.2)
        announce(f"ray://127.0.0.1:{client_port}")
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(60)


def announce(address):
    print(address, flush=True)
    sys.stdin.read()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def answers(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    # Workers import what tests define.
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    {"dask": dask, "dask_with_gpu": dask_with_gpu, "ray": ray}[sys.argv[1]]()
