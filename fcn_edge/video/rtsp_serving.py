"""The program that serves pictures over RTSP: GStreamer's server around an encoder, fed through stdin.

It is run by path, by whichever Python of the machine has GStreamer's bindings: an environment that pip made has none, and
cannot install them without a compiler, while the system's Python may have no other package. So it imports nothing of
fcn-edge. See `rtsp_out.py`, which starts it.

stdin:  a line of JSON with host, port, path, user and password; one with width, height, crop_width, crop_height and
        rate; then pictures in I420 of width x height.
stdout: lines of JSON: {"port", "encoder"} when it listens, {"watched": true or false}, {"error": "a line"} as the last.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import json
import signal
import sys
import threading

ENCODERS = {  # by preference; each is tried before it is taken, for a driver's element may be there without its device
    "nvv4l2h264enc": "nvvidconv ! video/x-raw(memory:NVMM),format=NV12 ! nvv4l2h264enc insert-sps-pps=true "
    "iframeinterval={key} bitrate={bits}",
    "nvh264enc": "videoconvert ! nvh264enc zerolatency=true gop-size={key} bitrate={kilobits}",
    "vah264enc": "videoconvert ! vah264enc key-int-max={key} b-frames=0 bitrate={kilobits}",
    "vaapih264enc": "videoconvert ! vaapih264enc keyframe-period={key} bitrate={kilobits}",
    "x264enc": "x264enc tune=zerolatency speed-preset=superfast key-int-max={key} bitrate={kilobits}",
    "openh264enc": "openh264enc complexity=low gop-size={key} bitrate={bits}",
}
TRIAL = "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1 ! {encoder} ! fakesink"
TRIAL_SECONDS = 5
HARDWARE = (*list(ENCODERS)[:4], "v4l2h264enc", "nvv4l2decoder", "nvh264dec", "vah264dec", "vaapih264dec", "v4l2h264dec")
BITS_A_PIXEL = 0.1  # 2.8 Mbit/s for 1280x720 at 30 a second
SESSIONS = 16  # viewers at a time; all of them get the one encoder's packets
CLEANUP_SECONDS = 5  # between looks for viewers that vanished


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
    """The one stream that all viewers share. It is encoded only while there is one."""

    def __init__(self, server: GstRtspServer.RTSPServer, wish: dict, encoder: str, video: dict) -> None:
        rate, (width, height) = video["rate"], (video["width"], video["height"])
        bits = max(100_000, round(width * height * rate * BITS_A_PIXEL))
        frames_a_second = max(1, round(rate))  # a key frame a second, which is what a new viewer waits for
        right, bottom = width - video["crop_width"], height - video["crop_height"]
        self.caps = f"video/x-raw,format=I420,width={width},height={height},framerate={round(rate * 1000)}/1000"
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(
            # The newest picture or none: what the encoder is too slow for is not worth having.
            f'( appsrc name=frames is-live=true do-timestamp=true format=time max-buffers=1 leaky-type=downstream caps="{self.caps}"'
            f" ! videocrop right={right} bottom={bottom}"
            f" ! {ENCODERS[encoder].format(key=frames_a_second, bits=bits, kilobits=bits // 1000)}"
            " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", self._begin)
        if wish["user"]:
            factory.add_role_from_structure(Gst.Structure.from_string(
                "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true;"
            )[0])
        self._media = self._frames = None
        self._newest: bytes | None = None
        self._lock = threading.Lock()
        server.get_mount_points().add_factory(wish["path"], factory)

    def _begin(self, factory: object, media: GstRtspServer.RTSPMedia) -> None:
        media.connect("unprepared", self._end)
        with self._lock:
            self._media = media
            self._frames = media.get_element().get_by_name("frames")
            if self._newest is not None:  # a source that is slow, or lost, is no reason to let a viewer wait
                self._frames.emit("push-buffer", Gst.Buffer.new_wrapped(self._newest))
        say(watched=True)

    def _end(self, media: GstRtspServer.RTSPMedia) -> None:
        with self._lock:
            if media is not self._media:  # a new viewer came before the last one's stream was gone
                return
            self._media = self._frames = None
        say(watched=False)

    def show(self, picture: bytes) -> None:
        with self._lock:
            self._newest = picture
            if self._frames is not None:
                self._frames.emit("push-buffer", Gst.Buffer.new_wrapped(picture))


def feed(server: GstRtspServer.RTSPServer, wish: dict, encoder: str, loop: GLib.MainLoop) -> None:
    """Show what comes through stdin until it ends; then end the program."""
    try:
        line = sys.stdin.buffer.readline()
        if line:
            video = json.loads(line)
            broadcast = Broadcast(server, wish, encoder, video)
            size = video["width"] * video["height"] * 3 // 2
            while len(picture := sys.stdin.buffer.read(size)) == size:
                broadcast.show(picture)
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
    threading.Thread(target=feed, args=(server, wish, encoder, loop), daemon=True).start()
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
