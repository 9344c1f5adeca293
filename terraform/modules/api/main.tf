# The HTTP API: one integration per function, one route per method and path.

locals {
  # With CORS a route of ANY would take the browsers' preflight requests too, and ask them who they are; without one, API
  # Gateway answers them.
  methods = ["DELETE", "GET", "PATCH", "POST", "PUT"]
  split = merge([
    for route, name in var.routes : {
      for method in startswith(route, "ANY ") ? local.methods : [split(" ", route)[0]] : "${method} ${split(" ", route)[1]}" => name
    }
  ]...)
  routes = length(var.cors_origins) > 0 ? local.split : var.routes
}

resource "aws_apigatewayv2_api" "this" {
  name          = var.prefix
  description   = "The API of ${var.prefix}."
  protocol_type = "HTTP"

  dynamic "cors_configuration" {
    for_each = length(var.cors_origins) > 0 ? [var.cors_origins] : []

    content {
      allow_origins  = cors_configuration.value
      allow_methods  = local.methods
      allow_headers  = ["authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-request-id"]
      expose_headers = ["retry-after", "server-timing", "x-request-id"]
      max_age        = 600
    }
  }
}

resource "aws_apigatewayv2_authorizer" "jwt" {
  count = var.authorization == "JWT" ? 1 : 0

  api_id           = aws_apigatewayv2_api.this.id
  name             = "jwt"
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]

  jwt_configuration {
    issuer   = try(var.jwt.issuer, null)
    audience = try(var.jwt.audiences, null)
  }

  lifecycle {
    precondition {
      condition     = var.jwt != null
      error_message = "authorization JWT needs jwt: issuer and audiences."
    }
  }
}

resource "aws_apigatewayv2_integration" "this" {
  for_each = var.functions

  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_uri        = each.value.invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "this" {
  for_each = local.routes

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.key
  target             = "integrations/${aws_apigatewayv2_integration.this[each.value].id}"
  authorization_type = var.authorization
  authorizer_id      = one(aws_apigatewayv2_authorizer.jwt[*].id)
}

resource "aws_lambda_permission" "this" {
  for_each = var.functions

  statement_id  = "api"
  action        = "lambda:InvokeFunction"
  function_name = each.value.name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "arn:${var.partition}:execute-api:${var.region}:${var.account_id}:${aws_apigatewayv2_api.this.id}/*/*"
}

# The name starts with /aws/vendedlogs so that log delivery needs no further resource policy.
resource "aws_cloudwatch_log_group" "access" {
  #checkov:skip=CKV_AWS_338:system logs are kept 90 days by the retention table; the audit trail is kept elsewhere
  name              = "/aws/vendedlogs/apigateway/${var.prefix}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    # Metrics per route are billed by the route; alarms and dashboard need those of the API, which are free.
    detailed_metrics_enabled = false
    throttling_rate_limit    = var.throttle.rate
    throttling_burst_limit   = var.throttle.burst
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    format = jsonencode({
      request_id    = "$context.requestId"
      time          = "$context.requestTime"
      route         = "$context.routeKey"
      status        = "$context.status"
      latency_ms    = "$context.responseLatency"
      function_ms   = "$context.integrationLatency"
      response_size = "$context.responseLength"
      source_ip     = "$context.identity.sourceIp"
      caller        = "$context.identity.caller"
      subject       = "$context.authorizer.claims.sub"
      error         = "$context.error.message"
      function_err  = "$context.integrationErrorMessage"
    })
  }
}
