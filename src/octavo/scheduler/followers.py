"""The further samples of a prompt, which wait while the first computes it."""

from octavo.core.request import Request, RequestStatus


class Followers:
    """Each stands behind one leader, as long as it is FORKING."""

    def __init__(self) -> None:
        self._of: dict[str, list[Request]] = {}

    def join(self, leader: Request, followers: list[Request]) -> None:
        """Stand behind a leader that has none yet."""
        for follower in followers:
            follower.status, follower.leader_id = RequestStatus.FORKING, leader.id
        if followers:
            self._of[leader.id] = followers

    def leave(self, follower: Request) -> None:
        assert follower.leader_id is not None
        self._of[follower.leader_id].remove(follower)

    def release(self, leader: Request) -> list[Request]:
        """Those behind the leader, which now wait without one."""
        followers = self._of.pop(leader.id, [])
        for follower in followers:
            follower.status, follower.leader_id = RequestStatus.WAITING, None
        return followers
