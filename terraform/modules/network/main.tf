# Where training instances run. They reach ECR, ECS, KMS and CloudWatch Logs through an internet gateway with addresses
# of their own: a NAT gateway would cost more per month than all the rest when idle. Nothing reaches them: the security
# group lets HTTPS out and nothing in. S3 and DynamoDB go through gateway endpoints, which are free.

locals {
  is_own = var.existing == null
  vpc_id = local.is_own ? aws_vpc.this[0].id : var.existing.vpc_id

  # Zones by name, so that a zone that AWS adds moves no subnet; each letter has its quarter of the addresses.
  letters = ["a", "b", "c", "d"]
  subnets = {
    for index, letter in local.letters : "${var.region}${letter}" => cidrsubnet(var.vpc_cidr, 2, index)
    if local.is_own && contains(try(data.aws_availability_zones.this[0].names, []), "${var.region}${letter}")
  }
}

data "aws_availability_zones" "this" {
  count = local.is_own ? 1 : 0

  state = "available"

  filter {
    name   = "zone-name"
    values = [for letter in local.letters : "${var.region}${letter}"]
  }
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:nothing listens here; what the instances do is in their logs and in CloudTrail
  count = local.is_own ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags                 = { Name = var.prefix }
}

resource "aws_default_security_group" "this" {
  count = local.is_own ? 1 : 0

  vpc_id = aws_vpc.this[0].id
}

resource "aws_internet_gateway" "this" {
  count = local.is_own ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = var.prefix }
}

resource "aws_subnet" "this" {
  #checkov:skip=CKV_AWS_130:without a NAT gateway instances need addresses of their own; the security group lets nothing in
  for_each = local.subnets

  vpc_id                  = aws_vpc.this[0].id
  availability_zone       = each.key
  cidr_block              = each.value
  map_public_ip_on_launch = true
  tags                    = { Name = "${var.prefix}-${each.key}" }
}

resource "aws_route_table" "this" {
  count = local.is_own ? 1 : 0

  vpc_id = aws_vpc.this[0].id
  tags   = { Name = var.prefix }
}

resource "aws_route" "internet" {
  count = local.is_own ? 1 : 0

  route_table_id         = aws_route_table.this[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "this" {
  for_each = local.subnets

  subnet_id      = aws_subnet.this[each.key].id
  route_table_id = aws_route_table.this[0].id
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = toset(local.is_own ? ["s3", "dynamodb"] : [])

  vpc_id            = aws_vpc.this[0].id
  service_name      = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.this[0].id]
  tags              = { Name = "${var.prefix}-${each.key}" }
}

resource "aws_security_group" "training" {
  #checkov:skip=CKV2_AWS_5:the launch template of module batch uses it
  name        = "${var.prefix}-training"
  description = "Training instances: HTTPS out, nothing in."
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.training.id
  description       = "AWS APIs and images."
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
