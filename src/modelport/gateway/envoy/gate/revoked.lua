-- Keys that are not taken any more: REVOKED is rendered in front of it. A program of its own, for it runs before the tenant's
-- rate is looked at, and only where a key is revoked.

function envoy_on_request(handle)
  local found = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = found and found["claims"]
  if claims and REVOKED.keys[claims.jti or ""] then handle:respond({ [":status"] = "403" }, "") end
end
