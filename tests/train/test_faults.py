"""What may happen to a run from outside: a full disk, a second process, an order to end."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from players import Mean, Played, gan, vae

import daguerre as dg
from daguerre.train.checkpoint import read
from daguerre.train.lock import Lock
from daguerre.train.store import checkpoints


def play(out, steps, callbacks=(), game=vae, **options) -> tuple[Played, dg.train.History]:
    played = game()
    options = {"batch_size": 8, "progress": False, "callbacks": callbacks} | options
    return played, dg.fit(played.objective, played.x, out=out, steps=steps, **options)


def weights(played: Played) -> list[torch.Tensor]:
    return [t.clone() for m in played.modules.values() for t in m.state_dict().values()]


# A full disk


@pytest.fixture
def disk(tmp_path):
    """A disk of 192 KiB, which a test may enlarge."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o"]
    done = subprocess.run([*mount, "size=192k", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_fit_goes_on_later(disk):
    whole, history = play(None, 60)
    plan = dg.train.Checkpoints(disk / "run", every=2, keep=99)
    message = r"No space left on device: .* the last checkpoint, .*\.safetensors, is intact"
    with pytest.raises(OSError, match=message) as error:
        play(plan, 60)
    assert error.value.errno == errno.ENOSPC
    last = checkpoints(disk / "run")[-1]
    assert str(last) in str(error.value)
    done = read(last).notes["steps"]
    assert 2 <= done < 60
    assert done <= len(dg.train.read_history(disk / "run/history.jsonl")) < 60
    assert not [*(disk / "run").rglob(".*")]
    with pytest.raises(OSError, match="No space left on device"):  # there still is none
        play(plan, 60, resume=True)
    assert read(last).notes["steps"] == done
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    again, resumed = play(plan, 60, resume=True)
    assert all(map(torch.equal, weights(whole), weights(again)))
    assert torch.equal(history["model"], resumed["model"])


def test_losses_that_find_no_room_name_the_last_checkpoint(tmp_path, monkeypatch):
    plan, written = dg.train.Checkpoints(tmp_path, every=4), os.write

    def full(handle, content):
        if content.startswith(b'{"step": 6'):
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(handle, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        message = r"No space left on device: losses were not written; the last .*004\.safetensors"
        with pytest.raises(OSError, match=message):
            play(plan, 20, [lambda now: time.sleep(1.1) if now.step in (5, 6) else None])
    assert len(play(plan, 20, resume=True)[1]) == 20


# A second fit in the same folder


def test_a_second_fit_is_refused_while_the_first_is_at_work(tmp_path):
    other = vae()

    def intrude(now):
        if now.step == 3:
            before = {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}
            with pytest.raises(BlockingIOError, match=rf"process {os.getpid()} is fitting into"):
                dg.fit(other.objective, other.x, steps=9, out=tmp_path, resume=True)
            assert before == {p: p.read_bytes() for p in tmp_path.rglob("*.safetensors")}

    whole, _ = play(None, 5)
    plan = dg.train.Checkpoints(tmp_path, every=2)
    assert all(map(torch.equal, weights(whole), weights(play(plan, 5, [intrude])[0])))
    assert not (tmp_path / ".lock").exists()
    play(plan, 7, resume=True)


HOLD = """
import sys, time
from pathlib import Path
from daguerre.train.lock import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_another_process_is_named_and_its_death_lets_go(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError, match=f"process {child.pid} is fitting into this folder"):
        play(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    child.kill()
    child.communicate()
    assert len(play(tmp_path, 2)[1]) == 2
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (FileExistsError, {}),
        (ZeroDivisionError, {"resume": True, "callbacks": [lambda now: 1 / 0]}),
        (ValueError, {"resume": True, "batch_size": 9}),
    ],
)
def test_a_fit_that_fails_lets_go(error, options, tmp_path):
    play(tmp_path, 2)
    with pytest.raises(error):
        play(tmp_path, 4, **options)
    assert not (tmp_path / ".lock").exists()
    assert len(play(tmp_path, 4, resume=True)[1]) == 4


def test_a_lock_that_was_removed_while_it_was_taken_is_taken_again(tmp_path, monkeypatch):
    first, second = Lock(tmp_path), Lock(tmp_path)
    first.acquire()
    real = os.open

    def opened(*args):
        monkeypatch.setattr(os, "open", real)
        handle = real(*args)
        first.release()  # between the opening and the lock of the other
        return handle

    monkeypatch.setattr(os, "open", opened)
    second.acquire()
    with pytest.raises(BlockingIOError):
        Lock(tmp_path).acquire()
    second.release()
    second.release()
    assert not [*tmp_path.iterdir()]


def test_a_lock_follows_no_link(tmp_path):
    victim = tmp_path / "mine"
    victim.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(victim)
    with pytest.raises(OSError, match=r"\.lock"):
        play(tmp_path / "run", 2)
    assert victim.read_text() == "precious"


def test_where_nothing_can_be_locked_it_says_so_and_goes_on(tmp_path, monkeypatch):
    def cannot(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", cannot)
    with pytest.warns(UserWarning, match="cannot be locked .*: see to it that one fit at a time"):
        assert len(play(tmp_path / "nfs", 2)[1]) == 2
    monkeypatch.setattr("daguerre.train.lock.fcntl", None)
    assert len(play(tmp_path / "windows", 2)[1]) == 2


# An order to end


@pytest.fixture
def default():
    """Take SIGTERM as a program does that nobody has told otherwise."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def order(step):
    return lambda now: signal.raise_signal(signal.SIGTERM) if now.step == step else None


@pytest.mark.usefixtures("default")
def test_sigterm_finishes_the_step_writes_a_checkpoint_and_ends(tmp_path):
    whole, _ = play(None, 12, game=gan)
    with pytest.raises(SystemExit) as end:
        play(tmp_path, 12, [order(5)], game=gan)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [path.stem for path in checkpoints(tmp_path)] == ["000000005"]
    assert not (tmp_path / ".lock").exists()
    again, history = play(tmp_path, 12, resume=True, game=gan)
    assert not history.interrupted
    assert all(map(torch.equal, weights(whole), weights(again)))


@pytest.mark.usefixtures("default")
def test_sigterm_during_the_last_write_is_not_lost(tmp_path, monkeypatch):
    flushed = os.fsync

    def ordered(handle):
        monkeypatch.setattr(os, "fsync", flushed)
        signal.raise_signal(signal.SIGTERM)
        flushed(handle)

    def watch(now):
        if now.step == 4:
            monkeypatch.setattr(os, "fsync", ordered)

    with pytest.raises(SystemExit):
        play(tmp_path, 4, [watch])
    assert [path.stem for path in checkpoints(tmp_path)] == ["000000004"]


@pytest.mark.usefixtures("default")
def test_without_a_folder_sigterm_is_left_to_the_system():
    seen = []
    play(None, 2, [lambda now: seen.append(signal.getsignal(signal.SIGTERM))])
    assert seen == [signal.SIG_DFL] * 2


def test_the_handlers_of_others_are_left_alone(tmp_path):
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        _, history = play(tmp_path, 6, [order(3)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]
    assert (len(history), history.interrupted) == (6, False)


def test_fits_in_other_threads_work(tmp_path):
    """Threads cannot take signals, and need not."""
    found = []

    def one():
        p = Mean()
        found.append(dg.fit(dg.nll(p), torch.ones(8), steps=9, out=tmp_path))

    thread = threading.Thread(target=one)
    thread.start()
    thread.join()
    assert [len(history) for history in found] == [9]
    assert (tmp_path / "checkpoints/000000009.safetensors").exists()


CLI = [sys.executable, "-m", "daguerre"]


def started(folder: Path) -> subprocess.Popen[bytes]:
    """Start a long run; return when it has written losses."""
    fit = [*CLI, "fit", "gan", "--out", "run", "--set", "steps=100000", "--no-compile"]
    child = subprocess.Popen(fit, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    losses = folder / "run/history.jsonl"
    while child.poll() is None and not (losses.exists() and losses.stat().st_size):
        time.sleep(0.05)
    return child


def test_the_command_line_ends_as_processes_do_that_are_told_to(tmp_path):
    child = started(tmp_path)
    second = subprocess.run(
        [*CLI, "resume", "run"], cwd=tmp_path, capture_output=True, check=False
    )
    assert second.returncode == 1
    assert f"process {child.pid} is fitting into this folder" in second.stderr.decode()
    child.terminate()
    out, err = child.communicate(timeout=60)
    assert child.returncode == 143, err.decode()
    assert "interrupted; go on with daguerre resume run" in out.decode()
    assert len(checkpoints(tmp_path / "run")) == 1
