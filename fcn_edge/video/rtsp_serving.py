"""The program that serves pictures over RTSP: GStreamer's server around an encoder, fed through stdin.

It is run by path, by whichever Python of the machine has GStreamer's bindings, which may have no other package; so it
imports nothing of fcn-edge. `rtsp_process.py` starts it, and says more.

stdin:  a line of JSON with host, port, user and password. Then for each stream one with path, rate, width, height,
        crop_width and crop_height, and for each picture one with path and bytes, and these: I420, width x height.
stdout: lines of JSON: port and encoder when it listens, or error; path and watched when its viewers come and go.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import json
import signal
import sys
import threading
import time

ENCODERS = {  # by preference; each is tried before it is taken, for a driver's element may be there without its device
    "nvv4l2h264enc": "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc insert-sps-pps=true "
    "iframeinterval={key} bitrate={bits}",
    "nvh264enc": "videoconvert ! nvh264enc zerolatency=true gop-size={key} bitrate={kilobits}",
    "vah264enc": "videoconvert ! vah264enc key-int-max={key} b-frames=0 bitrate={kilobits}",
    "vaapih264enc": "videoconvert ! vaapih264enc keyframe-period={key} bitrate={kilobits}",
    # One thread: others would cut each picture into slices, of which FFmpeg's players make two pictures at times.
    "x264enc": "x264enc tune=zerolatency speed-preset=superfast threads=1 key-int-max={key} bitrate={kilobits}",
    "openh264enc": "openh264enc complexity=low gop-size={key} bitrate={bits}",
}
TRIAL = (
    "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! {encoder} ! fakesink"
)
TRIAL_SECONDS = 5
HARDWARE = (
    *list(ENCODERS)[:4],
    "v4l2h264enc",
    "nvv4l2decoder",
    "nvh264dec",
    "vah264dec",
    "vaapih264dec",
    "v4l2h264dec",
)
BITS_A_PIXEL = 0.1  # 2.8 Mbit/s for 1280x720 at 30 a second
SESSIONS = 16  # viewers at a time; all of them get the one encoder's packets
CLEANUP_SECONDS = 5  # between looks for viewers that vanished
REPEAT_SECONDS = 0.2  # without a new picture until the last one is shown again: players want several to begin
VIEWER = "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true;"


def say(**message: object) -> None:
    print(json.dumps(message), flush=True)


def load() -> None:
    """Bind GStreamer's modules to this one's names."""
    global Gst, GstRtsp, GstRtspServer, GLib
    import gi

    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)


def choose_encoder() -> str | None:
    for name, line in ENCODERS.items():
        if Gst.ElementFactory.find(name) and works(line.format(key=30, bits=1_000_000, kilobits=1000)):
            return name
    return None


def works(encoder: str) -> bool:
    """Whether it encodes two small pictures."""
    try:
        pipeline = Gst.parse_launch(TRIAL.format(encoder=encoder))
    except GLib.Error:
        return False
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(TRIAL_SECONDS * Gst.SECOND, kinds)
    pipeline.set_state(Gst.State.NULL)
    return message is not None and message.type == Gst.MessageType.EOS


def listen(wish: dict) -> GstRtspServer.RTSPServer | None:
    """A server at the host and port, with what it asks of viewers; None where the port is taken."""
    server = GstRtspServer.RTSPServer()
    server.set_address(wish["host"])
    server.set_service(str(wish["port"]))
    pool = GstRtspServer.RTSPSessionPool()
    pool.set_max_sessions(SESSIONS)
    server.set_session_pool(pool)
    if wish["user"]:
        viewer = GstRtspServer.RTSPToken()
        viewer.set_string("media.factory.role", "viewer")
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)  # Basic would send the password itself
        auth.add_digest(wish["user"], wish["password"], viewer)
        server.set_auth(auth)
    if not server.attach(None):
        return None
    GLib.timeout_add_seconds(CLEANUP_SECONDS, lambda: pool.cleanup() >= 0)
    return server


class Broadcast:
    """A stream that all its viewers share. It is encoded only while there is one."""

    def __init__(self, server: GstRtspServer.RTSPServer, encoder: str, wish: dict) -> None:
        self.path = wish["path"]
        self._media = self._frames = None
        self._newest: bytes | None = None
        self._pushed = 0.0
        self._lock = threading.Lock()
        GLib.timeout_add(round(1e3 * REPEAT_SECONDS), self._repeat)
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {launch_line(encoder, wish)} )")
        factory.set_shared(True)
        factory.connect("media-configure", self._begin)
        if server.get_auth() is not None:
            factory.add_role_from_structure(Gst.Structure.from_string(VIEWER)[0])
        server.get_mount_points().add_factory(self.path, factory)

    def _begin(self, factory: object, media: GstRtspServer.RTSPMedia) -> None:
        media.connect("unprepared", self._end)
        with self._lock:
            self._media = media
            self._frames = media.get_element().get_by_name("frames")
        say(path=self.path, watched=True)
        self._repeat()

    def _repeat(self) -> bool:
        """A source that is slow, or lost, is no reason to let a viewer wait."""
        with self._lock:
            if time.monotonic() - self._pushed >= REPEAT_SECONDS:
                self._push()
        return True

    def _push(self) -> None:
        if self._frames is not None and self._newest is not None:
            self._pushed = time.monotonic()
            self._frames.emit("push-buffer", Gst.Buffer.new_wrapped(self._newest))

    def _end(self, media: GstRtspServer.RTSPMedia) -> None:
        with self._lock:
            if media is not self._media:  # a new viewer came before the last one's stream was gone
                return
            self._media = self._frames = None
        say(path=self.path, watched=False)

    def show(self, picture: bytes) -> None:
        with self._lock:
            self._newest = picture
            self._push()


def launch_line(encoder: str, wish: dict) -> str:
    rate, width, height = wish["rate"], wish["width"], wish["height"]
    bits = max(100_000, round(width * height * rate * BITS_A_PIXEL))
    key = max(1, round(rate / 2))  # a new viewer waits for a key frame, and the network may be slower than the source
    return (
        # The newest picture or none: what the encoder is too slow for is not worth having.
        "appsrc name=frames is-live=true do-timestamp=true format=time max-buffers=1 leaky-type=downstream "
        f'caps="video/x-raw,format=I420,width={width},height={height},framerate={round(rate * 1000)}/1000"'
        f" ! videocrop right={width - wish['crop_width']} bottom={height - wish['crop_height']}"
        f" ! {ENCODERS[encoder].format(key=key, bits=bits, kilobits=bits // 1000)}"
        " ! rtph264pay name=pay0 pt=96 config-interval=-1"
    )


def feed(server: GstRtspServer.RTSPServer, encoder: str, loop: GLib.MainLoop) -> None:
    """Show what comes through stdin until it ends; then end the program."""
    streams: dict[str, Broadcast] = {}
    try:
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "bytes" in message:
                streams[message["path"]].show(sys.stdin.buffer.read(message["bytes"]))
            else:
                streams[message["path"]] = Broadcast(server, encoder, message)
    finally:
        loop.quit()


def look() -> None:
    """Tell what GStreamer has here, for `fcn-edge doctor`."""
    try:
        load()
    except (ImportError, ValueError) as error:
        say(error=str(error))
    else:
        hardware = [name for name in dict.fromkeys(HARDWARE) if Gst.ElementFactory.find(name)]
        say(version=Gst.version_string().split()[-1], encoder=choose_encoder(), hardware=hardware)


def main() -> int:
    if sys.argv[1:] == ["--look"]:
        look()
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal; who started this one ends it
    wish = json.loads(sys.stdin.buffer.readline())
    try:
        load()
    except (ImportError, ValueError) as error:
        say(error=f"bindings: {error}")
        return 1
    encoder = choose_encoder()
    if encoder is None:
        say(error="encoder")
        return 1
    server = listen(wish)
    if server is None:
        say(error="port")
        return 1
    loop = GLib.MainLoop()
    say(port=server.get_bound_port(), encoder=encoder)
    threading.Thread(target=feed, args=(server, encoder, loop), daemon=True).start()
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
