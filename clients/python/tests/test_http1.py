"""The HTTP/1.1 reader for asyncio: what it takes, and what it refuses."""

from __future__ import annotations

import asyncio
import unittest

from crumbd.aio.http1 import Answer
from crumbd.errors import BadAnswer


async def read(data: bytes) -> tuple[Answer, bytes]:
    reader = asyncio.StreamReader(limit=4096)
    reader.feed_data(data)
    reader.feed_eof()
    answer, body = Answer(reader, 5.0), b""
    await answer.read_head(5.0)
    while piece := await answer.read():
        body += piece
    return answer, body


class Http1(unittest.IsolatedAsyncioTestCase):
    async def test_bodies_by_length_in_chunks_and_to_the_end(self) -> None:
        for data, keep_alive in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False),
            (b"HTTP/1.1 200\r\n\r\nhello", False),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n003\r\nllo\r\n0\r\nT: 1\r\n\r\n",
                True,
            ),
        ):
            with self.subTest(data=data):
                answer, body = await read(data)
                self.assertEqual((answer.status, body, answer.whole), (200, b"hello", True))
                self.assertEqual(answer.keep_alive, keep_alive)

    async def test_204_has_no_body(self) -> None:
        answer, body = await read(b"HTTP/1.1 204 No Content\r\nA: 1\r\na: 2\r\n\r\nrest")
        self.assertEqual((answer.headers, body), ({"a": "1, 2"}, b""))

    async def test_what_is_cut_off_is_not_whole(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for data in (
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            head,
            head + b"5\r\nhel",
            head + b"5\r\nhello",
            head + b"5\r\nhello\r\n",
            head + b"5\r\nhello\r\n0\r\n",
        ):
            with self.subTest(data=data), self.assertRaises(EOFError):
                await read(data)

    async def test_what_is_no_answer_is_refused(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        for data in (
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            head + b"no colon\r\n\r\n",
            head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: 5, 6\r\n\r\n",
            head + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2000 + b"\r\n",
            head + b"A: " + b"x" * 10_000 + b"\r\n\r\n",
            b"HTTP/1.1 102 Wait\r\n\r\n" * 9,
        ):
            with self.subTest(data=data[:60]), self.assertRaises(BadAnswer):
                await read(data)


if __name__ == "__main__":
    unittest.main()
