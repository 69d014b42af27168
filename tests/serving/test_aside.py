"""Which work the server's loop does itself."""

import asyncio
import threading

from onebit.serving.aside import aside


def test_work_on_long_texts_is_left_to_a_thread():
    def thread(word, more):
        return word + more, threading.current_thread()

    async def run():
        return await aside(10, thread, "a", more="b"), await aside(5_000_000, thread, "a", more="b")

    (short, here), (long, there) = asyncio.run(run())
    assert short == long == "ab"
    assert here is threading.main_thread()
    assert there is not here
