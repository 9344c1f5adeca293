# Three buckets (data, audit, access logs) and the table.

locals {
  infrequent_days = 90
  log_bucket      = "${var.prefix}-logs-${var.name_suffix}"
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

module "data" {
  source = "../bucket"

  name            = "${var.prefix}-data-${var.name_suffix}"
  kms_key_arn     = var.kms_key_arn
  access_log      = { bucket = module.logs.name }
  force_destroy   = !var.protect_data
  noncurrent_days = var.retention_days.noncurrent

  # Models and runs have no end: a version that served must stay provable.
  lifecycle_rules = {
    datasets    = { prefix = "datasets/", infrequent_days = local.infrequent_days, expire_days = var.retention_days.market_data }
    predictions = { prefix = "predictions/", infrequent_days = local.infrequent_days, expire_days = var.retention_days.predictions }
    outcomes    = { prefix = "outcomes/", infrequent_days = local.infrequent_days, expire_days = var.retention_days.predictions }
    drift       = { prefix = "drift/", infrequent_days = local.infrequent_days, expire_days = var.retention_days.predictions }
    runs        = { prefix = "runs/", infrequent_days = local.infrequent_days }
    uploads     = { prefix = "uploads/", expire_days = 1, noncurrent_days = 1 }
  }
}

module "audit" {
  source = "../bucket"

  name            = "${var.prefix}-audit-${var.name_suffix}"
  kms_key_arn     = var.kms_key_arn
  access_log      = { bucket = module.logs.name }
  force_destroy   = !var.protect_data
  noncurrent_days = var.retention_days.noncurrent
  object_lock     = { mode = var.audit_lock_mode, days = var.retention_days.audit }
  lifecycle_rules = { audit = { prefix = "", infrequent_days = local.infrequent_days, expire_days = var.retention_days.audit } }
}

data "aws_iam_policy_document" "log_delivery" {
  statement {
    sid       = "AccessLogs"
    actions   = ["s3:PutObject"]
    resources = ["arn:${data.aws_partition.current.partition}:s3:::${local.log_bucket}/s3/*"]

    principals {
      type        = "Service"
      identifiers = ["logging.s3.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

module "logs" {
  source = "../bucket"

  name              = local.log_bucket
  force_destroy     = true
  noncurrent_days   = 1
  lifecycle_rules   = { logs = { prefix = "", expire_days = var.retention_days.logs } }
  policy_statements = [data.aws_iam_policy_document.log_delivery.json]
}

resource "aws_dynamodb_table" "this" {
  name                        = var.prefix
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = var.protect_data

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arn
  }
}
