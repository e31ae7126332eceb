"""Media that would make a decoder open other files or ask the network: playlists, descriptions, references, names."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from random import Random

from PIL import Image, PngImagePlugin

from tools import fuzz_media


def make_hostile(folder: Path, outside: Path, host: str, count: int, seed: int = 5) -> list[tuple[str, str]]:
    """Write `count` media: lists and references that lead to files in `outside` or to `host`, the rest damaged files.

    Returns:
        (role, URI) of each; some URIs are no file but a protocol of FFmpeg or fsspec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    canary = outside / "canary.ts"
    found: list[tuple[str, str]] = []
    for number, content in enumerate(texts(canary, host)):
        for role, ending in (("video", "mp4"), ("video", "m3u8"), ("audio", "mp3"), ("image", "png"), ("image", "svg")):
            name = f"text{number}.{ending}"
            (folder / name).write_bytes(content)
            found.append((role, name))
    for name, content in containers(canary, host).items():
        (folder / name).write_bytes(content)
        found.append((fuzz_media.role(name.rpartition(".")[2]), name))
    clip = fuzz_media.make_seed("ts")
    for number, name in enumerate(("%03d.ts", "glob*?.ts", "concat:a|b.ts", "subfile,,start,0,end,9,,:x.ts", "-.ts")):
        (folder / name).write_bytes(clip)
        found.append(("video" if number % 2 else "image", name))
    found += [("video", uri) for uri in protocols(canary, host)] + [("image", uri) for uri in protocols(canary, host)]
    random = Random(seed)
    seeds = {name: fuzz_media.make_seed(name) for name in fuzz_media.FORMATS}
    for number in range(count - len(found)):
        kind = fuzz_media.FORMATS[number % len(fuzz_media.FORMATS)]
        name = f"damaged{number}.{kind}"
        (folder / name).write_bytes(fuzz_media.damage(seeds[kind], random))
        found.append((fuzz_media.role(kind), name))
    return found


def texts(canary: Path, host: str) -> list[bytes]:
    """Text formats that name other media."""
    file, web, near = canary.as_uri(), f"http://{host}/canary.ts", f"../{canary.parent.name}/{canary.name}"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
    key = f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{file}"\n#EXT-X-MAP:URI="{web}"\n#EXTINF:1.0,\n{near}\n'
    rows = [
        *(
            hls.format(target)
            for target in (file, str(canary), near, web, f"concat:{canary}|{canary}", f"crypto:{web}")
        ),
        key,
        *(f"ffconcat version 1.0\nfile '{target}'\n" for target in (canary, near, web)),
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {host.rpartition(':')[2]} RTP/AVP 96\n",
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f'<BaseURL>{web}</BaseURL><AdaptationSet><Representation id="1"><BaseURL>{file}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        f'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "{file}">]><svg xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{web}"/><text>&x;</text></svg>',
        f"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '{web}'\npop graphic-context\n",
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({canary}) (r) file run\nshowpage\n",
        f"[playlist]\nFile1={web}\nNumberOfEntries=1\n",
        f'<asx version="3.0"><entry><ref href="{web}"/></entry></asx>',
        f"[Reference]\nRef1={web}\n",
        f"RTSPtext\nrtsp://{host}/x\n",
        f"YUV4MPEG2 W8 H8 F1:1\nFRAME {file}\n",
    ]
    return [row.encode() for row in rows]


def containers(canary: Path, host: str) -> dict[str, bytes]:
    """Containers with references inside."""
    web = f"http://{host}/canary.ts".encode()
    png = io.BytesIO()
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f'<x xlink:href="http://{host}/x"/>')
    Image.new("RGB", (32, 32)).save(png, "PNG", pnginfo=info)
    jpeg = io.BytesIO()
    Image.new("RGB", (32, 32)).save(jpeg, "JPEG", comment=web)
    clip = fuzz_media.make_seed("mp4")
    moov, mdat = clip.index(b"moov") - 4, clip.index(b"mdat") - 4
    reference = _atom(b"rdrf", struct.pack(">I", 0) + b"url " + struct.pack(">I", len(web) + 1) + web + b"\0")
    movie = _atom(b"moov", _atom(b"rmra", _atom(b"rmda", reference)))
    path = str(canary).encode()
    elsewhere = (
        clip.replace(b"url \x00\x00\x00\x01", b"url \x00\x00\x00\x00") if b"url \x00\x00\x00\x01" in clip else clip
    )
    return {
        "xmp.png": png.getvalue(),
        "comment.jpeg": jpeg.getvalue(),
        "reference.mp4": _atom(b"ftyp", b"qt  \0\0\0\0qt  ") + movie,
        "both.mp4": _atom(b"ftyp", b"qt  \0\0\0\0qt  ") + movie + clip[moov:] + clip[mdat:moov],
        "elsewhere.mp4": elsewhere,
        "alias.mp4": clip.replace(b"url ", b"alis") + path,
        "list_after.ts": fuzz_media.make_seed("ts") + b"#EXTM3U\n#EXTINF:1,\n" + path + b"\n",
        "list_before.mp4": b"#EXTM3U\n#EXTINF:1,\n" + path + b"\n" + clip,
    }


def _atom(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def protocols(canary: Path, host: str) -> list[str]:
    """References of a manifest that name a protocol, or a file elsewhere."""
    return [
        f"http://{host}/canary.ts",
        f"https://{host}/canary.ts",
        f"ftp://{host}/canary.ts",
        f"rtsp://{host}/canary.ts",
        f"tcp://{host}",
        f"udp://{host}",
        f"concat:{canary}|{canary}",
        f"file:{canary}",
        canary.as_uri(),
        str(canary),
        f"../{canary.parent.name}/{canary.name}",
        f"subfile,,start,0,end,100,,:{canary}",
        f"simplecache::{canary.as_uri()}",
        f"zip://x.ts::{canary.as_uri()}",
        f"reference::http://{host}/refs.json",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
        "fd:0",
        "cache:/etc/hostname",
        "gopher://127.0.0.1/x",
        "memory://x.ts",
        f"smb://{host}/x/y.ts",
        f"sftp://{host}/x.ts",
        f"github://o:r@/{host}",
    ]
