"""AWS signatures: as AWS's own library makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest import mock

from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Secret
from proxy.providers.sigv4 import Keys, Signer

KEYS = Keys("AKIDEXAMPLE", Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HEADERS = {"content-type": "application/json", "host": "bedrock-runtime.us-west-2.amazonaws.com"}
PATH = "/model/anthropic.claude-v2%3A1/converse"


def sign(signer: Signer, keys: Keys = KEYS, now: datetime = NOON, path: str = PATH) -> str:
    return signer.sign(keys, path, HEADERS, b"{}", now)["authorization"]


def by_botocore(
    keys: Keys, region: str, path: str, headers: dict[str, str], body: bytes, now: datetime
) -> dict[str, str]:
    """What botocore adds; its clock alone is replaced."""
    request = AWSRequest("POST", f"http://{headers['host']}{path}", headers=headers, data=body)
    session = None if keys.session is None else keys.session.reveal()
    credentials = Credentials(keys.key_id, keys.secret.reveal(), session)
    with mock.patch.object(auth, "get_current_datetime", return_value=now):
        auth.SigV4Auth(credentials, "bedrock", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def test_a_request_is_signed() -> None:
    assert Signer("us-west-2", "bedrock").sign(KEYS, PATH, HEADERS, b"{}", NOON) == {
        "x-amz-date": "20261120T120000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/us-west-2/bedrock/"
        "aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature="
        "92da404823241597c0796c2df6003cf4b9951c4abf7f92cb33c573a4dab0e468",
    }


segments = st.lists(
    st.text("abcXYZ019-_.~%:/", min_size=1).map(
        lambda text: text.replace("%", "%25").replace(":", "%3A").replace("/", "%2F")
    ),
    min_size=1,
    max_size=4,
).filter(lambda parts: not {".", ".."} & set(parts))
secrets = st.text("abcXYZ019+/=", min_size=1, max_size=60)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
keys = st.builds(
    Keys, st.text("AKID012", min_size=1), secrets.map(Secret), st.none() | secrets.map(Secret)
)


@given(keys, st.sampled_from(["us-west-2", "eu-central-1"]), segments, st.binary(), moments)
def test_botocore_signs_alike(
    keys: Keys, region: str, parts: list[str], body: bytes, now: datetime
) -> None:
    path = "/" + "/".join(parts)
    headers = {"content-type": "application/json", "host": "127.0.0.1:8080"}

    added = Signer(region, "bedrock").sign(keys, path, headers, body, now)

    assert {**headers, **added} == by_botocore(keys, region, path, headers, body, now)


def test_the_key_of_the_day_is_made_anew_when_anything_of_it_changes() -> None:
    signer = Signer("us-west-2", "bedrock")
    other = Keys("AKIDEXAMPLE", Secret("other"))
    moments = (NOON, NOON, NOON + timedelta(hours=11), NOON + timedelta(days=1))

    for keys in (KEYS, other, KEYS):
        for now in moments:
            assert sign(signer, keys, now) == sign(Signer("us-west-2", "bedrock"), keys, now)


def test_keys_do_not_show_themselves() -> None:
    shown = repr(Keys("AKIDEXAMPLE", Secret("hunter2hunter2"), Secret("sessionsession")))

    assert "hunter2" not in shown
    assert "sessionsession" not in shown
