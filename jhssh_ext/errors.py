"""Every failure that a person can meet, as a type with a stable code.

    JHSSHError
    ├── Denied                        the answer is no
    │   ├── KeyUnknown                KEY_UNKNOWN
    │   ├── TokenInvalid              TOKEN_INVALID
    │   ├── TokenExpired              TOKEN_EXPIRED
    │   ├── ApprovalDenied            APPROVAL_DENIED
    │   ├── ApprovalExpired           APPROVAL_EXPIRED
    │   ├── PolicyDenied              POLICY_DENIED
    │   ├── SSHNotEnabled             SSH_NOT_ENABLED
    │   ├── ServerStopped             SERVER_STOPPED
    │   ├── TooManyAttempts           TOO_MANY_ATTEMPTS
    │   ├── TooManySessions           TOO_MANY_SESSIONS
    │   └── ConnectionEnded           CONNECTION_ENDED
    ├── Unavailable                   ask again later
    │   ├── HubUnavailable            HUB_UNAVAILABLE
    │   ├── SpawnFailed               SPAWN_FAILED
    │   ├── ServerUnreachable         SERVER_UNREACHABLE
    │   ├── HostKeyMismatch           HOST_KEY_MISMATCH
    │   ├── KeySourceUnavailable      KEY_SOURCE_UNAVAILABLE
    │   ├── DatabaseUnavailable       DATABASE_UNAVAILABLE
    │   ├── ShuttingDown              SHUTTING_DOWN
    │   ├── StoreUnusable             KEY_STORE_UNUSABLE
    │   └── ImportUnavailable         KEY_IMPORT_UNAVAILABLE
    └── KeyRefused                    a change of the registered keys is not made: what was sent is at fault
        ├── BadRequest                BAD_REQUEST
        ├── TooLarge                  TOO_LARGE
        ├── KeyElsewhere              KEY_ELSEWHERE
        ├── KeyMalformed              KEY_MALFORMED
        ├── KeyPrivate                KEY_PRIVATE
        ├── KeyWeak                   KEY_WEAK
        ├── KeyTypeUnsupported        KEY_TYPE_UNSUPPORTED
        ├── KeyDuplicate              KEY_DUPLICATE
        ├── KeyAccountUnknown         KEY_ACCOUNT_UNKNOWN
        └── KeyTooMany                KEY_TOO_MANY

``sentence`` is for the user: safe to show, says what to do, in ASCII (OpenSSH's client escapes all else in a disconnect message).
``explanation`` is for the admin, names the setting to mend, and goes to the log only.
"""

from __future__ import annotations


class JHSSHError(Exception):
    """Base of all; never raised itself."""

    code = "ERROR"
    default_sentence = "Something went wrong."

    def __init__(self, sentence: str | None = None, *, explanation: str = "") -> None:
        self.sentence = sentence or self.default_sentence
        self.explanation = explanation
        super().__init__(self.sentence)

    def __str__(self) -> str:
        """What goes to a log: the code and the explanation where there is one."""
        return f"{self.code}: {self.explanation or self.sentence}"


class Denied(JHSSHError):
    """The answer is no, and asking again does not help."""


class KeyUnknown(Denied):
    code = "KEY_UNKNOWN"
    default_sentence = "This key is not registered for this server. Add it with ssh-copy-id, with a token of the Hub as password."


class TokenInvalid(Denied):
    code = "TOKEN_INVALID"
    default_sentence = "This token does not open this server. Make a new one on the Token page of the Hub."


class TokenExpired(Denied):
    code = "TOKEN_EXPIRED"
    default_sentence = "This login has expired. Run: jhssh login"


class ApprovalDenied(Denied):
    code = "APPROVAL_DENIED"
    default_sentence = "This login was denied in the browser."


class ApprovalExpired(Denied):
    code = "APPROVAL_EXPIRED"
    default_sentence = "Nobody approved this login in time. Connect again for a new code."


class PolicyDenied(Denied):
    code = "POLICY_DENIED"
    default_sentence = "This hub does not allow that over SSH."


class SSHNotEnabled(Denied):
    code = "SSH_NOT_ENABLED"
    default_sentence = "SSH access is off for this server. Stop it, tick 'Enable SSH access' and start it again."


class ServerStopped(Denied):
    code = "SERVER_STOPPED"
    default_sentence = "This server is stopped, and this login may not start it. Start it in the browser."


class TooManyAttempts(Denied):
    code = "TOO_MANY_ATTEMPTS"
    default_sentence = "Too many attempts. Wait a minute and try again."


class TooManySessions(Denied):
    code = "TOO_MANY_SESSIONS"
    default_sentence = "Too many connections are open. Close some and try again."


class ConnectionEnded(Denied):
    code = "CONNECTION_ENDED"
    default_sentence = "This connection was ended on the SSH page of the Hub, or the key that opened it was removed."


class Unavailable(JHSSHError):
    """Nothing was refused: a part that is needed does not answer."""


class HubUnavailable(Unavailable):
    code = "HUB_UNAVAILABLE"
    default_sentence = "The Hub does not answer right now. Try again in a minute."


class SpawnFailed(Unavailable):
    code = "SPAWN_FAILED"
    default_sentence = "Your server could not be started. Start it in the browser to see why."


class ServerUnreachable(Unavailable):
    code = "SERVER_UNREACHABLE"
    default_sentence = (
        "Your server runs, but its sshd does not answer. Restart the server; if that does not help, tell your admin."
    )


class HostKeyMismatch(Unavailable):
    code = "HOST_KEY_MISMATCH"
    default_sentence = (
        "Something else answers in place of your server. Restart the server; if that does not help, tell your admin."
    )


class KeySourceUnavailable(Unavailable):
    code = "KEY_SOURCE_UNAVAILABLE"
    default_sentence = "The site that keeps your public keys does not answer right now. Try again in a minute."


class DatabaseUnavailable(Unavailable):
    code = "DATABASE_UNAVAILABLE"
    default_sentence = "The SSH gateway can't reach its database right now. Try again in a minute."


class ShuttingDown(Unavailable):
    code = "SHUTTING_DOWN"
    default_sentence = "The SSH gateway is being restarted. Connect again in a minute."


class StoreUnusable(Unavailable):
    code = "KEY_STORE_UNUSABLE"
    default_sentence = "The key store can't be written. Nothing was changed."


class ImportUnavailable(Unavailable):
    code = "KEY_IMPORT_UNAVAILABLE"
    default_sentence = "The keys could not be fetched from there. Paste them instead."


class KeyRefused(JHSSHError):
    """A change of the registered keys is not made: what was sent is at fault. ``line`` counts from 1, 0 means all of the text."""

    code = "KEY_REFUSED"

    def __init__(self, sentence: str | None = None, *, line: int = 0, explanation: str = "") -> None:
        super().__init__(sentence, explanation=explanation)
        self.line = line


class BadRequest(KeyRefused):
    code = "BAD_REQUEST"
    default_sentence = 'Send JSON of the form {"public_key": "ssh-ed25519 AAAA... you@laptop"}.'


class TooLarge(KeyRefused):
    code = "TOO_LARGE"
    default_sentence = "This is too long. Send the one line of a file that ends in .pub."


class KeyElsewhere(KeyRefused):
    code = "KEY_ELSEWHERE"
    default_sentence = "This key stands in ~/.ssh/authorized_keys, which is never changed here. Remove its line there."


class KeyMalformed(KeyRefused):
    code = "KEY_MALFORMED"
    default_sentence = "This is not an OpenSSH public key. Paste the one line of a file that ends in .pub."


class KeyPrivate(KeyRefused):
    code = "KEY_PRIVATE"
    default_sentence = (
        "This is a private key. It was not stored, but it left your machine: make a new pair, "
        "and paste the line of the file that ends in .pub."
    )


class KeyWeak(KeyRefused):
    code = "KEY_WEAK"
    default_sentence = "This key is too weak. Make a new one with: ssh-keygen -t ed25519"


class KeyTypeUnsupported(KeyRefused):
    code = "KEY_TYPE_UNSUPPORTED"
    default_sentence = "This type of key is not taken. Make a new one with: ssh-keygen -t ed25519"


class KeyDuplicate(KeyRefused):
    code = "KEY_DUPLICATE"
    default_sentence = "This key is already registered."


class KeyAccountUnknown(KeyRefused):
    code = "KEY_ACCOUNT_UNKNOWN"
    default_sentence = "There is no such user there, or the user has no keys there."


class KeyTooMany(KeyRefused):
    code = "KEY_TOO_MANY"
    default_sentence = "Too many keys are registered. Remove one that you no longer use."
