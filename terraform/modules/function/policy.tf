# What the function may do: no wildcard action, and resources by ARN wherever the action can be restricted to one.

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

# What the adapter of the table calls; a transaction needs the permissions of the writes in it.
locals {
  table_actions = {
    read  = ["dynamodb:GetItem", "dynamodb:Query"]
    write = ["dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:UpdateItem"]
  }
}

data "aws_iam_policy_document" "this" {
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }

  statement {
    sid       = "Traces"
    actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    resources = ["*"] # X-Ray has no resources to name.
  }

  statement {
    sid       = "DataKey"
    actions   = length(var.access.write) > 0 || var.access.table == "write" ? ["kms:Decrypt", "kms:GenerateDataKey"] : ["kms:Decrypt"]
    resources = [var.resources.data_key_arn]
  }

  statement {
    sid       = "Table"
    actions   = var.access.table == "write" ? concat(local.table_actions.read, local.table_actions.write) : local.table_actions.read
    resources = [var.resources.table_arn]
  }

  statement {
    sid       = "ReadBlobs"
    actions   = ["s3:GetObject"]
    resources = [for prefix in var.access.read : "${var.resources.bucket_arn}/${prefix}*"]
  }

  # A request for one object has no prefix, and is told that the object is missing, instead of forbidden, only by who may
  # list: hence IfExists.
  statement {
    sid       = "ListBlobs"
    actions   = ["s3:ListBucket"]
    resources = [var.resources.bucket_arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = [for prefix in distinct(concat(var.access.read, var.access.list)) : "${prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.access.write) > 0 ? [var.access.write] : []

    content {
      sid       = "WriteBlobs"
      actions   = ["s3:AbortMultipartUpload", "s3:PutObject"]
      resources = [for prefix in statement.value : "${var.resources.bucket_arn}/${prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = var.access.publish ? [var.resources.bus_arn] : []

    content {
      sid       = "Publish"
      actions   = ["events:PutEvents"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.access.sign ? [var.resources.signing_key_arn] : []

    content {
      sid       = "Sign"
      actions   = ["kms:GetPublicKey", "kms:Sign"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.access.invoke ? [var.resources.native_function_arn] : []

    content {
      sid       = "HandOn"
      actions   = ["lambda:InvokeFunction"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.queue == null ? [] : [var.queue.arn]

    content {
      sid       = "TakeEvents"
      actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.access.jobs ? local.jobs_statements : {}

    content {
      sid       = statement.key
      actions   = statement.value.actions
      resources = statement.value.resources
    }
  }
}

locals {
  jobs_statements = {
    SubmitJobs = {
      actions   = ["batch:SubmitJob", "batch:TagResource"]
      resources = concat(var.resources.job_queue_arns, var.resources.job_definition_arns, [local.job_arns])
    }
    EndJobs = {
      actions   = ["batch:TerminateJob"]
      resources = [local.job_arns]
    }
    SeeJobs = {
      actions   = ["batch:DescribeJobs", "batch:ListJobs"]
      resources = ["*"] # AWS Batch restricts neither of them to a resource.
    }
    SeeJobLogs = {
      actions   = ["logs:GetLogEvents"]
      resources = ["${var.resources.job_log_group_arn}:log-stream:*"]
    }
  }
  job_arns = "arn:${var.partition}:batch:${var.region}:${var.account_id}:job/*"
}

resource "aws_iam_role" "this" {
  name               = var.name
  description        = "Of the function ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "this" {
  name   = "access"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.this.json
}
