# Puts Microsoft's own client to a vault, and fails where the two do not understand each other.
import os
import sys
from datetime import datetime, timedelta, timezone

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.keyvault.secrets import SecretClient

url, authority_file = os.environ["VAULT"], os.environ["CA"]


def client(secret):
    credential = ClientSecretCredential(
        os.environ["TENANT"],
        os.environ["CLIENT_ID"],
        secret,
        authority=url,
        disable_instance_discovery=True,
        connection_verify=authority_file,
    )
    # The fake's host does not end in what its tokens are for, which is all that this is about.
    return SecretClient(
        url,
        credential,
        api_version="7.4",
        verify_challenge_resource=False,
        connection_verify=authority_file,
        retry_total=0,
    )


def refused(kind, status, call):
    try:
        call()
    except kind as error:
        assert getattr(error, "status_code", status) in (status, None), error
        return error
    sys.exit(f"{kind.__name__} was due")


vault = client(os.environ["CLIENT_SECRET"])
first = vault.set_secret("Own-Secret", "one", content_type="text/plain", tags={"team": "pay"})
second = vault.set_secret("own-secret", '{"two": 2}')
assert first.name == second.name and first.properties.version != second.properties.version
assert vault.get_secret("OWN-SECRET").value == '{"two": 2}'
old = vault.get_secret("own-secret", first.properties.version)
assert (old.value, old.properties.content_type, old.properties.tags) == ("one", "text/plain", {"team": "pay"})
versions = {version.version for version in vault.list_properties_of_secret_versions("own-secret")}
assert versions == {first.properties.version, second.properties.version}

vault.update_secret_properties("own-secret", first.properties.version, enabled=False)
disabled = refused(HttpResponseError, 403, lambda: vault.get_secret("own-secret", first.properties.version))
assert disabled.error.code == "Forbidden", disabled.error
end = datetime.now(timezone.utc) - timedelta(hours=1)
vault.set_secret("expired", "still given out", expires_on=end)
assert vault.get_secret("expired").properties.expires_on < datetime.now(timezone.utc)

for number in range(60):
    vault.set_secret(f"many-{number}", "value")
assert len([secret for secret in vault.list_properties_of_secrets() if secret.name.startswith("many-")]) == 60

deleted = vault.begin_delete_secret("many-0").result()
assert deleted.deleted_date and deleted.recovery_id
assert vault.get_deleted_secret("many-0").name == "many-0"
refused(ResourceNotFoundError, 404, lambda: vault.get_secret("many-0"))
refused(ResourceNotFoundError, 404, lambda: vault.get_secret("absent"))
refused(HttpResponseError, 409, lambda: vault.set_secret("many-0", "value"))
refused(HttpResponseError, 400, lambda: vault.set_secret("long", "x" * 25_601))
refused(ClientAuthenticationError, 401, lambda: client("wrong").get_secret("own-secret"))
print("understood")
