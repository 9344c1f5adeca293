# One function: log group, role, code, and the queue that it takes events from.

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:system logs are kept 90 days by the retention table; the audit trail is kept elsewhere
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.resources.data_key_arn
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_116:nothing calls it asynchronously; events come from a queue that has a dead-letter queue
  #checkov:skip=CKV_AWS_117:it talks to AWS services only, by IAM; a VPC would need endpoints that cost more than it
  #checkov:skip=CKV_AWS_173:no secret is in the environment; the service's key spares the cold start a call to KMS
  #checkov:skip=CKV_AWS_272:the same apply builds the role and uploads the code; signing profiles are the organisation's
  function_name                  = var.name
  description                    = var.description
  role                           = aws_iam_role.this.arn
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  filename                       = var.artifact
  source_code_hash               = try(filebase64sha256(var.artifact), null)
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_secs
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = { for name, value in var.environment : name => value if value != "" }
  }

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  tracing_config {
    mode = "Active"
  }

  lifecycle {
    precondition {
      condition     = fileexists(var.artifact)
      error_message = "${var.artifact} does not exist. Build it first: infra/build.sh functions (see docs/deploy.md), or set artifacts_dir."
    }
  }

  depends_on = [aws_iam_role_policy.this]
}

resource "aws_lambda_event_source_mapping" "queue" {
  count = var.queue == null ? 0 : 1

  function_name           = aws_lambda_function.this.arn
  event_source_arn        = var.queue.arn
  batch_size              = var.queue.batch_size
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = 10
  }
}
