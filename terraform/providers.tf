locals {
  is_emulator = var.endpoint_url != null
}

provider "aws" {
  region = var.region

  # An emulator has no instance's metadata, and serves buckets by path. Its account is asked for: budgets are named by it.
  skip_credentials_validation = local.is_emulator
  skip_metadata_api_check     = local.is_emulator
  skip_region_validation      = local.is_emulator
  s3_use_path_style           = local.is_emulator

  dynamic "endpoints" {
    for_each = local.is_emulator ? [var.endpoint_url] : []

    content {
      acm            = endpoints.value
      apigatewayv2   = endpoints.value
      batch          = endpoints.value
      budgets        = endpoints.value
      cloudwatch     = endpoints.value
      cloudwatchlogs = endpoints.value
      dynamodb       = endpoints.value
      ec2            = endpoints.value
      ecr            = endpoints.value
      eventbridge    = endpoints.value
      iam            = endpoints.value
      kms            = endpoints.value
      lambda         = endpoints.value
      route53        = endpoints.value
      s3             = endpoints.value
      scheduler      = endpoints.value
      sns            = endpoints.value
      sqs            = endpoints.value
      sts            = endpoints.value
    }
  }

  default_tags {
    tags = merge({ project = var.prefix, managed_by = "terraform" }, var.tags)
  }
}
