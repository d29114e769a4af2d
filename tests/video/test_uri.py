from __future__ import annotations

import re
from fractions import Fraction
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fcn_edge.errors import FcnEdgeError, SourceError, UsageError
from fcn_edge.video.options import SourceOptions
from fcn_edge.video.uri import parse, redact


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("0", "v4l2", "/dev/video0"),
        ("v4l2:///dev/video2", "v4l2", "/dev/video2"),
        ("v4l2://2", "v4l2", "/dev/video2"),
        ("/dev/video2", "v4l2", "/dev/video2"),
        ("/dev/v4l/by-id/usb-Cam-index0", "v4l2", "/dev/v4l/by-id/usb-Cam-index0"),
        ("csi://1", "csi", "1"),
        ("gst://videotestsrc ! video/x-raw,width=64", "gst", "videotestsrc ! video/x-raw,width=64"),
        ("rtsp://10.0.0.1/live", "rtsp", "rtsp://10.0.0.1/live"),
        ("RTSP://10.0.0.1/live", "rtsp", "rtsp://10.0.0.1/live"),
        ("https://camera/video.mjpg?fps=5", "https", "https://camera/video.mjpg?fps=5"),
        ("udp://@239.0.0.1:5000", "udp", "udp://@239.0.0.1:5000"),
        ("demo:", "demo", "demo:"),
        ("clip.mp4", "file", "clip.mp4"),
        ("./0", "file", "./0"),
        ("photos/*.jpg", "file", "photos/*.jpg"),
    ],
)
def test_one_grammar_names_every_kind(text, kind, target):
    uri = parse(text)
    assert (uri.kind, uri.target) == (kind, target)
    assert uri.live == (kind not in ("demo", "file"))


def test_options_stand_behind_a_hash_and_go_before_those_for_all():
    common = SourceOptions().updated("flip=180,rate=15")

    uri = parse("0#size=720x1280,rate=30000/1001,codec=YUYV,reconnect=10min,stall=500ms", common)

    assert uri.target == "/dev/video0"
    assert uri.options == SourceOptions(
        size=(720, 1280), rate=Fraction(30_000, 1001), codec="yuyv", flip="180", reconnect=600.0, stall=0.5
    )
    assert parse("clip.mp4#loop").options.loop is True
    assert parse("demo:#live,reconnect=forever").options.reconnect == float("inf")


def test_a_file_whose_name_has_a_hash_still_opens(tmp_path):
    for name in ("take #2.mp4", "a#loop", "a#flip=180.mp4"):
        (tmp_path / name).touch()
        assert parse(tmp_path / name).target == str(tmp_path / name)
        assert parse(f"{tmp_path / name}#flip=90").options.flip == "90"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0#size=1280", "size=1280: is not a size. Write rows by columns"),
        ("0#size=0x5", "size=0x5"),
        ("0#rate=0", "rate=0: is not a rate"),
        ("0#rate=1/0", "rate=1/0: is not a rate"),
        ("0#flip=45", "Write one of 180, 90, 270, horizontal, vertical"),
        ("0#stall=0", "is not a time from 0.1"),
        ("0#stall=5 minutes", "Write it as in 5, 200ms or 10min"),
        ("clip.mp4#loop=maybe", "yes or no"),
        ("0#colour=red", "there is no source option 'colour'. Known: codec, flip"),
        ("rtsp://camera/live#track2", "there is no source option 'track2'"),
        ("rtsp://camera/live#size=720x1280", "rtsp://camera/live: size= means nothing to such a source. It knows flip"),
        ("clip.mp4#rate=5", "rate= means nothing"),
        ("rtmp://camera/live", "rtmp:// is not known. Known: v4l2://"),
        ("csi://front", "names no sensor"),
        ("rtsp://", "ends where its address should begin"),
        ("", "has no name"),
        ("a\0b", "has no name"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, words):
    with pytest.raises((UsageError, SourceError), match=re.escape(words)) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
@example("0#size=99999x99999")
@example("rtsp://[::1/x@#=,")
def test_any_text_is_a_source_or_an_error_in_one_line(text):
    try:
        uri = parse(text)
    except FcnEdgeError:
        return
    assert uri.quoted
    assert "\n" not in uri.hide(text)


TYPED = st.text(st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_characters="%"), min_size=3, max_size=20)


class TestSecrets:
    """What people type as a password reaches the camera as they meant it, and nobody else."""

    @given(TYPED)
    @example("p@ss/w#rd")
    @example("12/34@56")
    @example("a b'c\"d")
    def test_no_password_is_shown(self, password):
        assume(password not in repr(parse("rtsp://***@camera.local:554/live")) + "rtsp://***@camera.local:554/live")
        uri = parse(f"rtsp://viewer:{password}@camera.local:554/live")

        assert uri.name == "rtsp://***@camera.local:554/live"
        assert password not in repr(uri)
        for text in (f"cannot open '{uri.target}'", f"{uri.quoted}: 401", f"password was {password}, user viewer"):
            assert password not in uri.hide(text)

    @given(TYPED)
    @example("p@ss#w rd:1")
    @example("p/w#d")
    def test_the_password_arrives_as_it_was_typed(self, password):
        assume(not re.match(r"\d{0,5}[/?]", password))  # reads as host, port and path
        assume(not ("@" in password and re.search(r"[/?]", password)))
        split = urlsplit(parse(f"rtsp://viewer:{password}@camera.local:554/live").quoted)

        assert unquote(split.password or "") == password
        assert (split.username, split.hostname, split.port, split.path) == ("viewer", "camera.local", 554, "/live")

    def test_a_quoted_password_is_the_one_that_it_stands_for(self):
        uri = parse("rtsp://viewer:p%40ss@camera/live")
        assert uri.credentials == ("viewer", "p@ss")
        assert uri.quoted == "rtsp://viewer:p%40ss@camera/live"
        assert "p@ss" not in uri.hide("the password p@ss, p%40ss")

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("rtsp://u:p@h/x and http://a:b@c/", "rtsp://***@h/x and http://***@c/"),
            ("http://h/x?user=admin&password=p&fps=5", "http://h/x?user=***&password=***&fps=5"),
            ("rtsp://h/user=admin_password=p_channel=1", "rtsp://h/user=***"),
            (
                'rtspsrc location="rtsp://u:a b@h/x" user-pw="c d" ! a',
                'rtspsrc location="rtsp://***@h/x" user-pw=*** ! a',
            ),
            ("https://h/live.m3u8?token=abc", "https://h/live.m3u8?token=***"),
            ("rtsp://***@h/x", "rtsp://***@h/x"),
            ("mail me@home, see http://h/x", "mail me@home, see http://h/x"),
        ],
    )
    def test_secrets_in_any_text_are_hidden(self, text, shown):
        assert redact(text) == shown

    def test_the_secrets_of_a_pipeline_are_not_in_its_name(self):
        uri = parse("gst://rtspsrc location=rtsp://h/x user-id=admin user-pw=geheim ! decodebin")
        assert "geheim" not in uri.name
        assert "geheim" in uri.target


@pytest.mark.parametrize(
    "text",
    ["rtsp://user:PW x@h/x#codec=h264", "foo://user:PW y@h", "foo://user:PW'y@h", "rtsp://user:PW@[::1/x"],
)
def test_a_refused_address_is_shown_without_its_password_however_that_is_written(text):
    with pytest.raises(FcnEdgeError) as refused:
        parse(text)
    assert "PW" not in str(refused.value)
    assert "***@" in str(refused.value)


@pytest.mark.parametrize("text", ["udp://127.0.0.1:99999", "rtsp://[::1/x", "http://cam:http/"])
def test_a_host_or_port_that_cannot_be_is_refused_before_anybody_waits_for_it(text):
    with pytest.raises(SourceError, match="its host or port cannot be read"):
        parse(text)
