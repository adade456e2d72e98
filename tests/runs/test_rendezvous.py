"""Processes that meet before jax connects them: what is wrong is told to each, and none is left waiting."""

import concurrent.futures
import socket
import time

import pytest
from pair_runs import free_port

from vq_jax.errors import UserError
from vq_jax.runs.rendezvous import meet, parse_coordinator


def met(*processes, port=None, timeout=5.0):
    """What each (number, count) of the processes is told; None where all is well."""
    port = port or free_port()

    def one(number, count):
        try:
            meet("127.0.0.1", port, number, count, timeout)
        except UserError as error:
            return str(error)
        return None

    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return [told.result(timeout=30) for told in [pool.submit(one, *process) for process in processes]]


def test_all_processes_meet_and_leave_the_port_free():
    port = free_port()
    assert met((0, 3), (1, 3), (2, 3), port=port) == [None] * 3
    assert met((0, 1), port=port) == [None]


def test_processes_that_never_come_are_told_within_the_timeout():
    began = time.monotonic()
    first, second = met((0, 4), (2, 4), timeout=0.5)
    assert first == second and "within 0.5 s: 1, 3 of 4 did not come" in first
    assert time.monotonic() - began < 10


def test_two_processes_of_one_number_and_different_counts_are_told():
    for told in met((0, 4), (1, 4), (1, 4)):
        assert "two processes have --process-id 1" in told
    for told in met((0, 3), (1, 2)):
        assert "got 3 in process 0 and 2 in process 1" in told


def test_a_taken_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"the port {port} of --coordinator is in use here"):
            meet("127.0.0.1", port, 0, 2, 1.0)


def test_another_program_at_the_port_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other, concurrent.futures.ThreadPoolExecutor(1) as pool:
        joining = pool.submit(meet, "127.0.0.1", other.getsockname()[1], 1, 2, 2.0)
        peer, _ = other.accept()
        peer.sendall(b"SSH-2.0\r\n")
        peer.close()
        with pytest.raises(UserError, match="does not take process 1"):
            joining.result(timeout=20)


def test_somebody_who_tries_ports_does_not_disturb():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        host = pool.submit(meet, "127.0.0.1", port, 0, 2, 10.0)
        deadline = time.monotonic() + 5
        while True:
            try:
                stranger = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                assert time.monotonic() < deadline
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stranger.close()
        pool.submit(meet, "127.0.0.1", port, 1, 2, 10.0).result(timeout=20)
        host.result(timeout=20)


@pytest.mark.parametrize("coordinator", ["here", ":80", "here:", "here:x", "here:²", "here:-1"])
def test_what_is_no_address_is_told(coordinator):
    with pytest.raises(UserError, match="expected --coordinator HOST:PORT, got"):
        parse_coordinator(coordinator)


def test_an_address_is_read():
    assert parse_coordinator("[::1]:1234") == ("::1", 1234)
    for port in ("0", "65536", "9" * 30):
        with pytest.raises(UserError, match="expected a port from 1 to 65535"):
            parse_coordinator(f"here:{port}")
